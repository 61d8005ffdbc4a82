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
	"html/template"
	"log/slog"
	"net/http"
	"strings"

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
func Page(lp *logport.Logport) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := collect(lp, r)
		if !ok {
			http.Error(w, "level is neither a level's name nor a number", http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if err := pageTemplate.Execute(w, p); err != nil {
			lp.Log(r.Context(), slog.LevelDebug, "debug page", logport.Facility("flogtool.loghttp"), slog.Any("err", err))
		}
	})
}

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
	var matching []*event.Event // the last maxShown, in a circle
	for e := range lp.Buffered() {
		p.Held++
		if e.Level() < least || !event.Match(p.Facility, e.Facility()) {
			continue
		}
		if search != "" && !strings.Contains(strings.ToLower(pytext.Format(e)+string(e.AppendJSON(nil))), search) {
			continue
		}
		if len(matching) < maxShown {
			matching = append(matching, e)
		} else {
			matching[p.Matching%maxShown] = e
		}
		p.Matching++
	}
	for i := range matching {
		p.Rows = append(p.Rows, rowOf(matching[(p.Matching-1-i)%len(matching)]))
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
