package logport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/logport"
)

// events returns what lp's rings hold, without its own reports.
func events(lp *logport.Logport) []*event.Event {
	var all []*event.Event
	for e := range lp.Buffered() {
		if !strings.HasPrefix(e.Facility(), "flogtool") {
			all = append(all, e)
		}
	}
	return all
}

// asMap returns an event as encoding/json would give it.
func asMap(t *testing.T, e *event.Event) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(e.AppendJSON(nil), &m); err != nil {
		t.Fatalf("event %s: %v", e.AppendJSON(nil), err)
	}
	return m
}

func TestSlogtest(t *testing.T) {
	var lp *logport.Logport
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		lp = open(t, logport.Config{Listen: "off"})
		return lp.Handler()
	}, func(t *testing.T) map[string]any {
		all := events(lp)
		if len(all) != 1 {
			t.Fatalf("%d events are recorded, want 1", len(all))
		}
		m := asMap(t, all[0])
		m[slog.MessageKey] = m["message"] // the names differ: design.md, "Events"
		delete(m, "message")
		return m
	})
}

type stringer struct{ s string }

func (s stringer) String() string { return s.s }

type panics struct{}

func (panics) String() string { panic("no") }

type panicsInLogValue struct{}

func (panicsInLogValue) LogValue() slog.Value { panic("no value") }

// logsItself logs while it is being logged: it must not meet a lock.
type logsItself struct{ lp *logport.Logport }

func (l logsItself) String() string {
	l.lp.Log(context.Background(), slog.LevelDebug, "inner")
	return "outer"
}

func TestValues(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	l := slog.New(lp.Handler())
	cyclic := map[string]any{}
	cyclic["self"] = cyclic
	u, _ := url.Parse("https://example.org/x")
	for _, c := range []struct {
		value any
		want  any
	}{
		{errors.New("broken pipe"), "broken pipe"},
		{stringer{"as text"}, "as text"},
		{u, "https://example.org/x"},
		{panics{}, "!PANIC: no"},
		{logsItself{lp}, "outer"},
		{time.Second + time.Millisecond, "1.001s"},
		{time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("x", 3600)), "2026-01-02T02:04:05.000006Z"},
		{[]byte("text"), "text"},
		{[]byte{0xff}, `"\xff"`},
		{[]int{1, 2}, []any{1.0, 2.0}},
		{map[string]int{"a": 1}, map[string]any{"a": 1.0}},
		{struct{ A, B int }{1, 2}, map[string]any{"A": 1.0, "B": 2.0}},
		{uint8(7), 7.0},
		{event.Num(1 << 40), float64(1 << 40)},
		{nil, nil},
		{true, true},
	} {
		l.Info("m", "v", c.value)
		all := events(lp)
		got := asMap(t, all[len(all)-1])["v"]
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%T %v is recorded as %v, want %v", c.value, c.value, got, c.want)
		}
	}
	// What no form can hold is still an event that can be read, and says what it was.
	for _, c := range []struct {
		value any
		want  string // what the value begins with
	}{
		{cyclic, "(map[string]interface {}: json: unsupported value: encountered a cycle"},
		{math.NaN(), "NaN"},
		{math.Inf(-1), "-Inf"},
		{make(chan int), "(chan int: json: unsupported type: chan int)"},
		{func() {}, "(func(): json: unsupported type: func())"},
		{panicsInLogValue{}, "LogValue panicked\n"},
		{complex(1, 2), "(1+2i)"},
	} {
		before := len(events(lp))
		l.Info("odd", "v", c.value)
		all := events(lp)
		if len(all) != before+1 {
			t.Fatalf("%T is not recorded", c.value)
		}
		v, _ := all[before].Get("v")
		if got := fmt.Sprint(v); !strings.HasPrefix(got, c.want) {
			t.Errorf("%T is recorded as %q, want it to begin with %q", c.value, got, c.want)
		}
	}
}

func TestPlacing(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	l := slog.New(lp.Handler())
	ctx := context.Background()

	first := lp.Log(ctx, slog.LevelInfo, "first", logport.Facility("app.db"), logport.Umid("x1"))
	lp.Log(ctx, slog.LevelInfo, "second", logport.Parent(first))
	lp.Log(logport.WithParent(ctx, first), slog.LevelInfo, "third")
	lp.Log(ctx, slog.LevelInfo, "fourth", logport.Parent(event.NoNum))
	l.With("facility", "app.web", "umid", "x2").WithGroup("g").InfoContext(logport.WithParent(ctx, first), "fifth", "facility", "inner")
	l.Info("sixth", "num", 1, "time", 2, "level", 3, "message", 4, "format", 5, "args", 6, "incarnation", 7,
		"failure", 8, "isError", 9, "stacktrace", 10, "from", 11, "rx_time", 12, "dup", 1, "dup", 2)
	lp.Log(ctx, slog.LevelInfo, "", logport.Format("%(who)s did %(n)d"), slog.String("who", "ann"), slog.Int("n", 3))

	all := events(lp)
	if len(all) != 7 {
		t.Fatalf("%d events, want 7", len(all))
	}
	if f := all[0].Facility(); f != "app.db" || all[0].Text("umid") != "x1" {
		t.Errorf("the first event is of facility %q, umid %q", f, all[0].Text("umid"))
	}
	for i, want := range []bool{false, true, true, false, true, false, false} {
		if n, ok := all[i].Parent(); ok != want || ok && n != first {
			t.Errorf("event %d has parent %d, %v; want %v", i, n, ok, want)
		}
	}
	m := asMap(t, all[4])
	if m["facility"] != "app.web" || m["umid"] != "x2" || fmt.Sprint(m["g"]) != "map[facility:inner]" {
		t.Errorf("attributes of With and of a group are recorded as %v", m)
	}
	if src, _ := m["source"].(string); !strings.HasPrefix(src, "logport/handler_test.go:") {
		t.Errorf("the source is %q, want this file", src)
	}
	m = asMap(t, all[5])
	for key, want := range map[string]float64{"num_": 1, "time_": 2, "level_": 3, "message_": 4, "format_": 5, "args_": 6,
		"incarnation_": 7, "failure_": 8, "isError_": 9, "stacktrace_": 10, "from_": 11, "rx_time_": 12, "dup": 2} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
	if got := pytext.Format(all[6]); got != "ann did 3" {
		t.Errorf("the format gives %q", got)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	l := slog.New(lp.Handler())
	l.Info("pb://abcdefgh@tcp:1.2.3.4:5/secretname said hello",
		"password", "p1", "DB_PASSWORD", "p2", "authToken", "p3", "Set-Cookie", "p4", "Authorization", "Bearer p5",
		"tokens", 512, "user", "ann", "furl", "pb://abcdefgh@tcp:1.2.3.4:5/secretname",
		"nested", map[string]any{"api_key": "p6", "path": "/x", "furls": []string{"pb://abcdefgh@tcp:1.2.3.4:5/secretname"}})
	line := string(events(lp)[0].AppendJSON(nil))
	for _, secret := range []string{"p1", "p2", "p3", "p4", "p5", "p6", "secretname", "1.2.3.4"} {
		if strings.Contains(line, secret) {
			t.Errorf("%q is recorded: %s", secret, line)
		}
	}
	for _, kept := range []string{`"tokens": 512`, `"user": "ann"`, `pb://abcdefgh@`, `"path": "/x"`} {
		if !strings.Contains(line, kept) {
			t.Errorf("%q is not recorded: %s", kept, line)
		}
	}
}

// TestSecretsByWhatTheyAre: secrets in every form, wherever an event can hold a text.
func TestSecretsByWhatTheyAre(t *testing.T) {
	forms := map[string]string{ // the text, and what is left of it
		"see pb://abcdefgh@tcp:1.2.3.4:5/SECRETNAME, and more":          "see pb://abcdefgh@… and more",
		"pb://abcdefgh@tcp:[2001:db8::7]:3116,tcp:h:1/SECRETNAME":       "pb://abcdefgh@…",
		"pb://abcdefgh@[::1]:3116/SECRETNAME":                           "pb://abcdefgh@…",
		`{"furl":"pb:\/\/abcdefgh@tcp:h:1\/SECRETNAME"}`:                `{"furl":"pb:\/\/abcdefgh@…"}`,
		"GET /?furl=pb%3A%2F%2Fabcdefgh%40tcp%3Ah%3A1%2FSECRETNAME&x=1": "GET /?furl=pb%3A%2F%2Fabcdefgh%40…&x=1",
		"PB://abcdefgh@h:1/SECRETNAME":                                  "PB://abcdefgh@…",
		"postgres://orders:SECRETNAME@db:5432/orders":                   "postgres://(masked)@db:5432/orders",
		"https://SECRETNAME@api.example.org/":                           "https://(masked)@api.example.org/",
		"GET /cb?access_token=SECRETNAME&state=7 200":                   "GET /cb?access_token=(masked)&state=7 200",
		"refresh_token=SECRETNAME; path=/":                              "refresh_token=(masked); path=/",
		"X-Api-Key=SECRETNAME":                                          "X-Api-Key=(masked)",
		"client_secret%3DSECRETNAME":                                    "client_secret%3D(masked)",
		"max_tokens=512 retry=3 a=b":                                    "max_tokens=512 retry=3 a=b",
		"mail to ann@example.org, 50% of a=b":                           "mail to ann@example.org, 50% of a=b",
		"https://example.org/a?b=c":                                     "https://example.org/a?b=c",
	}
	for text, want := range forms {
		if got := logport.MaskText(text); got != want {
			t.Errorf("%q is masked as %q, want %q", text, got, want)
		}
		if !strings.Contains(text, "SECRETNAME") {
			continue
		}
		lp := open(t, logport.Config{Listen: "off"})
		ctx := context.Background()
		l := slog.New(lp.Handler())
		header := http.Header{"Authorization": {"Bearer SECRETNAME"}, "Cookie": {"a=SECRETNAME", "b"}, "X-Trace": {text}}
		for _, log := range []func(){
			func() { l.Info(text) },
			func() { l.Info("message", "key", text) },
			func() { l.Info("message", text, 1) },
			func() { l.Info("message", "error", errors.New(text)) },
			func() { l.Info("message", "error", fmt.Errorf("wrapped: %w", errors.New(text))) },
			func() { l.Info("message", "map", map[string]int{text: 1}) },
			func() { l.Info("message", "list", []any{1, []string{text}}) },
			func() { l.Info("message", "struct", struct{ URL string }{text}) },
			func() { l.Info("message", "stringer", stringer{text}) },
			func() { l.Info("message", "header", header) },
			func() { l.Info("message", "passwords", []string{"SECRETNAME"}) },
			func() { l.Info("message", "credentials", map[string][]string{"x": {"SECRETNAME"}}) },
			func() { l.Info("message", slog.Group("secrets", "inner", "SECRETNAME", "n", 1)) },
			func() { l.Info("message", slog.Group("g", "inner", text)) },
			func() { l.With("with", text).Info("message") },
			func() { l.WithGroup("g").With("with", text).Info("message", "x", 1) },
			func() { l.Info("message", logport.Format("%(x)s from "+text), "x", 1) },
			func() { l.Info("message", logport.Umid(text)) },
			func() { lp.Log(ctx, slog.LevelInfo, text, slog.String("key", text)) },
			func() { lp.DeclareIncident(ctx, text) },
			func() { lp.RecordPanic(ctx, text) },
			func() { lp.RecordPanic(ctx, errors.New(text)) },
		} {
			log()
		}
		n := 0
		for e := range lp.Buffered() {
			n++
			if line := string(e.AppendJSON(nil)); strings.Contains(line, "SECRETNAME") {
				t.Errorf("%q is recorded: %.300s", text, line)
			}
		}
		if n < 22 {
			t.Errorf("%d events are recorded, want all", n)
		}
	}
}

func TestRedact(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off", Redact: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case a.Key == "panic":
			panic("in Redact")
		case slices.Equal(groups, []string{"user"}) && a.Key == "mail":
			return slog.String("mail", "***")
		}
		return a
	}})
	slog.New(lp.Handler()).WithGroup("user").Info("m", "mail", "a@b.c", "name", "ann", "panic", "secret")
	m := asMap(t, events(lp)[0])
	if got := fmt.Sprint(m["user"]); got != "map[mail:*** name:ann panic:(masked)]" {
		t.Errorf("the group is recorded as %s", got)
	}
}

func TestThresholds(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	ctx := context.Background()
	lp.SetThreshold("", event.Unusual)
	lp.SetThreshold("db", event.Noisy)
	lp.SetThreshold("db.pool", event.Bad)
	log := func(facility string, l event.Level) bool {
		return lp.Log(ctx, l.Slog(), "m", logport.Facility(facility)) != event.NoNum
	}
	for _, c := range []struct {
		facility string
		level    event.Level
		want     bool
	}{
		{"", event.Operational, false},
		{"", event.Unusual, true},
		{"web", event.Operational, false},
		{"db", event.Noisy, true},
		{"db.query", event.Noisy, true},
		{"dbx", event.Noisy, false},
		{"db.pool", event.Weird, false},
		{"db.pool.conn", event.Weird, false},
		{"db.pool", event.Bad, true},
	} {
		if got := log(c.facility, c.level); got != c.want {
			t.Errorf("an event of %q at %v is made: %v, want %v", c.facility, c.level, got, c.want)
		}
	}
	if !lp.Handler().Enabled(ctx, slog.LevelDebug) {
		t.Error("Enabled(Debug) is false, although facility db wants it")
	}
	before := lp.Stats().Events
	log("", event.Noisy)
	if lp.Stats().Events != before {
		t.Error("an event below the threshold used up a number")
	}
}

func TestLongEventsAreCut(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	lp.Log(context.Background(), slog.LevelInfo, "long", slog.String("body", strings.Repeat("é", 100_000)), slog.Int("n", 7))
	many := make([]slog.Attr, 30_000)
	for i := range many {
		many[i] = slog.Int(fmt.Sprint("attribute number ", i), i)
	}
	lp.Log(context.Background(), slog.LevelInfo, "wide", many...)
	all := events(lp)
	if len(all) != 2 {
		t.Fatalf("%d events, want 2", len(all))
	}
	body := all[0].Text("body")
	if !strings.HasSuffix(body, "é…(200000 bytes)") || len(body) < 10_000 {
		t.Errorf("the long text has %d bytes and ends in %q", len(body), body[max(0, len(body)-30):])
	}
	if n, _ := all[0].Get("n"); n != int64(7) {
		t.Errorf("the attribute beside it is %v", n)
	}
	if _, ok := all[1].Get("fields_left_out"); !ok || all[1].Text("message") != "wide" {
		t.Errorf("the wide event has %d fields and does not say that some are missing", len(all[1].Fields))
	}
	lp.Log(context.Background(), slog.LevelInfo, "fits", slog.String("body", strings.Repeat("x", 50_000)))
	if all = events(lp); len(all[2].Text("body")) != 50_000 {
		t.Errorf("a text of 50,000 bytes has %d", len(all[2].Text("body")))
	}
}
