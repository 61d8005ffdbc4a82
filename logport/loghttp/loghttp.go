// Package loghttp joins a Logport to an HTTP server: a panic in a handler
// becomes an incident, and a page shows what the rings hold.
//
//	mux.Handle("GET /debug/flog", loghttp.Page(lp))
//	http.ListenAndServe(addr, loghttp.Handler(lp, mux))
//
// It is a package of its own because it links net/http, which a service that only logs
// does not need.
package loghttp

import (
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/logport"
)

// Handler returns next with a recorder around it: a panic is recorded as an incident,
// with its stack and the request's method, path and address, and goes on to the
// server. [http.ErrAbortHandler], which ends an answer and is not a failure, is not
// recorded.
func Handler(lp *logport.Logport, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler {
				lp.RecordPanic(r.Context(), v, slog.String("method", r.Method), slog.String("path", r.URL.Path),
					slog.String("remote", r.RemoteAddr))
			}
			panic(v)
		}()
		next.ServeHTTP(w, r)
	})
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// maxShown bounds the events on one page.
const maxShown = 1000

// page is what the template shows.
type page struct {
	Name                     string
	Level, Facility, Search  string
	Levels                   []event.Level
	Facilities               []logport.FacilityInfo
	Rows                     []row
	Held, Matching, MaxShown int
	Cut                      bool // not all that is held was looked at
	Stats                    logport.Stats
}

type row struct {
	Num, Parent string
	Time        string
	Level       event.Level
	Facility    string
	Text        string
	Rest        string // the other fields: key=JSON
}

// Page returns a page of what the rings hold now, newest first. Its query is
// level (a name or number: it and above), facility (it and its children) and q
// (text in the event, in any case). The page shows everything that was logged: mount
// it where only those who may read that can reach it.
//
// A request must name the server by an IP address, as localhost, or as one of hosts: a
// page of another site that has its own name point here cannot read this one. The page
// looks at the newest events for at most 50 ms.
func Page(lp *logport.Logport, hosts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r.Host, hosts) {
			http.Error(w, fmt.Sprintf("this page is not served for the host %.100q: loghttp.Page has a list", r.Host), http.StatusForbidden)
			return
		}
		p, ok := collect(lp, r)
		if !ok {
			http.Error(w, "level is neither a level's name nor a number", http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if err := pageTemplate.Execute(w, p); err != nil {
			lp.Log(r.Context(), slog.LevelDebug, "debug page", logport.Facility("flogtool.loghttp"), slog.Any("err", err))
		}
	})
}

// allowed reports whether a request's Host is one that nobody else can have point here.
func allowed(host string, hosts []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

const (
	maxWork = 50 * time.Millisecond // that a request may take of a processor
	step    = 2048                  // events looked at before the time is
)

func collect(lp *logport.Logport, r *http.Request) (page, bool) {
	q := r.URL.Query()
	p := page{Name: lp.Name(), Level: q.Get("level"), Facility: q.Get("facility"), Search: q.Get("q"),
		Levels: event.Levels[:], MaxShown: maxShown, Stats: lp.Stats()}
	least := event.Level(-1 << 31)
	if p.Level != "" {
		var ok bool
		if least, ok = event.ParseLevel(p.Level); !ok {
			return p, false
		}
	}
	search := strings.ToLower(p.Search)
	matches := func(e *event.Event) bool {
		return e.Level() >= least && event.Match(p.Facility, e.Facility()) &&
			(search == "" || strings.Contains(strings.ToLower(pytext.Format(e)+string(e.AppendJSON(nil))), search))
	}
	// The newest first, a step of numbers at a time, so that what there is no time for
	// is what is oldest.
	began := time.Now()
	for until := event.Num(p.Stats.Events); until > 0 && !p.Cut; {
		from := event.Num(0)
		if until > step {
			from = until - step
		}
		var found []*event.Event
		for e := range lp.BufferedFrom(from) {
			if num, _ := e.Num(); num >= until {
				break
			}
			p.Held++
			if matches(e) {
				found = append(found, e)
			}
		}
		p.Matching += len(found)
		for _, e := range slices.Backward(found) {
			if len(p.Rows) < maxShown {
				p.Rows = append(p.Rows, rowOf(e))
			}
		}
		until = from
		p.Cut = until > 0 && time.Since(began) > maxWork
	}
	for _, f := range lp.Facilities() {
		if f.Name != "" {
			p.Facilities = append(p.Facilities, f)
		}
	}
	return p, true
}

func rowOf(e *event.Event) row {
	r := row{Time: e.Time().Format("15:04:05.000000"), Level: e.Level(), Facility: e.Facility(), Text: pytext.Format(e)}
	var rest []byte
	for _, f := range e.Fields {
		switch f.Key {
		case "num":
			r.Num = string(event.AppendJSON(nil, f.Value))
		case "parent":
			r.Parent = string(event.AppendJSON(nil, f.Value))
		case "time", "level", "message", "format", "facility", "incarnation": // shown above, or the same in all
		default:
			if len(rest) > 0 {
				rest = append(rest, "  "...)
			}
			rest = event.AppendJSON(append(append(rest, f.Key...), '='), f.Value)
		}
	}
	r.Rest = string(rest)
	return r
}
