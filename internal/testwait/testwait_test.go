package testwait

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a test that fails.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

// fails returns what f says when it fails; "" if it does not.
func fails(t *testing.T, f func(testing.TB)) (said string) {
	defer func() {
		if failed, ok := recover().(*failing); ok {
			said = failed.said
		}
	}()
	f(&failing{TB: t})
	return ""
}

func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		Eventually(t, "ten seconds", func() bool { return time.Since(begin) >= 10*time.Second })
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("Eventually returned after %v, want 10 s", took)
		}
		want := "waited in vain for the impossible"
		if said := fails(t, func(t testing.TB) { Eventually(t, "the impossible", func() bool { return false }) }); said != want {
			t.Errorf("Eventually fails with %q, want %q", said, want)
		}
	})
}

func TestFreePort(t *testing.T) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog(t)
		log := slog.New(l).With("a", 1).With("b", 2)
		log.Debug("first", "c", 3)
		go func() {
			time.Sleep(time.Second)
			log.Info("second")
			slog.New(l).Error("first")
		}()
		for _, want := range []string{"first a=1 b=2 c=3", "first"} {
			if got := l.Wait(t, "first"); got != want {
				t.Errorf("Wait = %q, want %q", got, want)
			}
		}
		if n := l.Count("a=1", "b=2"); n != 2 {
			t.Errorf("Count = %d, want 2", n)
		}
		want := `waited in vain for a log line with ["second" "b=2"]`
		if said := fails(t, func(t testing.TB) { l.Wait(t, "second", "b=2") }); said != want {
			t.Errorf("Wait fails with %q, want %q", said, want)
		}
	})
}
