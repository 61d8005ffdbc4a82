package loghttp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/loghttp"
)

func newLogport(t *testing.T) *logport.Logport {
	lp, err := logport.Open(logport.Config{Name: "shop", Listen: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lp.Close() })
	return lp
}

func TestPanicBecomesAnIncident(t *testing.T) {
	lp := newLogport(t)
	srv := httptest.NewUnstartedServer(loghttp.Handler(lp, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "fine")
	})))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	defer srv.Close()
	for _, c := range []struct {
		path      string
		ok        bool
		incidents uint64
	}{{"/", true, 0}, {"/abort", false, 0}, {"/panic", false, 1}, {"/", true, 1}} {
		resp, err := http.Get(srv.URL + c.path)
		if (err == nil) != c.ok {
			t.Errorf("GET %s: %v, want an answer: %v", c.path, err, c.ok)
		}
		if err == nil {
			resp.Body.Close()
		}
		if n := lp.Stats().Incidents; n != c.incidents {
			t.Errorf("after GET %s there are %d incidents, want %d", c.path, n, c.incidents)
		}
	}
	for e := range lp.Buffered() {
		if strings.HasPrefix(e.Text("message"), "panic: ") {
			if e.Text("path") != "/panic" || e.Text("method") != "GET" {
				t.Errorf("the trigger is %s", e.AppendJSON(nil))
			}
			return
		}
	}
	t.Error("there is no trigger")
}

func get(t *testing.T, h http.Handler, url string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", url, nil)
	r.Host = "localhost:8080"
	h.ServeHTTP(w, r)
	if w.Code == http.StatusOK && !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("GET %s has no content security policy", url)
	}
	return w.Code, w.Body.String()
}

func TestPage(t *testing.T) {
	lp := newLogport(t)
	ctx := context.Background()
	first := lp.Log(ctx, slog.LevelDebug, "<script>alert(1)</script>", logport.Facility("shop.web"), slog.String("k", "<b>"))
	lp.Log(ctx, slog.LevelInfo, "child", logport.Parent(first), logport.Facility("shop.db"))
	for range 1500 {
		lp.Log(ctx, slog.LevelInfo, "many", logport.Facility("other"))
	}
	lp.Log(ctx, slog.LevelError, "the newest")
	h := loghttp.Page(lp)

	_, body := get(t, h, "/?facility=shop")
	if strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;alert(1)") || !strings.Contains(body, "&lt;b&gt;") {
		t.Error("what was logged is not escaped")
	}
	if !strings.Contains(body, "2 match") || strings.Index(body, "child") > strings.Index(body, "alert(1)") {
		t.Error("the two events of the facility are not shown, newest first")
	}
	if _, body = get(t, h, "/?level=BAD"); !strings.Contains(body, "1 match") || !strings.Contains(body, "the newest") {
		t.Error("the level is not honoured")
	}
	if _, body = get(t, h, "/?q=CHILD"); !strings.Contains(body, "1 match") {
		t.Error("the text is not searched in any case")
	}
	if _, body = get(t, h, "/"); strings.Count(body, "<tr id=") != 1000 || !strings.Contains(body, "the newest 1000 are shown") || !strings.Contains(body, "the newest<") {
		t.Errorf("%d events are on the page, want the newest 1000", strings.Count(body, "<tr id="))
	}
	if code, _ := get(t, h, "/?level=loud"); code != http.StatusBadRequest {
		t.Errorf("an unknown level gives %d", code)
	}
}

// TestPageAndOtherSites: a name that somebody else points here is not answered, and no
// other page shows this one in a frame.
func TestPageAndOtherSites(t *testing.T) {
	lp := newLogport(t)
	h := loghttp.Page(lp, "orders.example.org")
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "[::1]:8080": 200, "localhost": 200, "LocalHost:80": 200, "orders.example.org:443": 200, "10.1.2.3": 200,
		"evil.example": 403, "evil.example:8080": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "": 403,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q is answered with %d, want %d", host, w.Code, want)
		}
		if want == 200 && !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Error("the page may be shown in a frame")
		}
	}
}

// TestPageIsBounded: a page of very much that is held takes its time and no more, shows the
// newest, and says that it was cut.
func TestPageIsBounded(t *testing.T) {
	lp, err := logport.Open(logport.Config{RingBytes: 128 << 20, Listen: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lp.Close() })
	for i := range 400_000 {
		lp.Log(context.Background(), slog.LevelInfo, "one of many", slog.Int("i", i), slog.String("pad", "some text that makes it longer"))
	}
	lp.Log(context.Background(), slog.LevelInfo, "the newest")
	began := time.Now()
	_, body := get(t, loghttp.Page(lp), "/?q=nothing+holds+this")
	if took := time.Since(began); took > time.Second {
		t.Errorf("the page took %v", took)
	}
	if !strings.Contains(body, "no time to look at the older ones") {
		t.Errorf("the page does not say that it was cut: %.1200s", body)
	}
	if _, body = get(t, loghttp.Page(lp), "/?q=the+newest"); !strings.Contains(body, "the newest<") {
		t.Error("the newest event is not shown")
	}
}
