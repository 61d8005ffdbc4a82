package loghttp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
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
