package tail_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
	"github.com/flogtool/flogtool/tail"
)

// app is a Python program with a logport. It logs on request: a line on its standard input
// is "say" or "mark TEXT".
const app = `
import sys
from twisted.internet import reactor, stdio
from twisted.protocols import basic
from foolscap.api import Tub
from foolscap.logging import log
furlfile, port = sys.argv[1:3]
tub = Tub(certFile=furlfile + ".pem")
tub.setOption("logport-furlfile", furlfile)
tub.listenOn("tcp:%s:interface=127.0.0.1" % port)
tub.setLocation("tcp:127.0.0.1:%s" % port)
tub.startService()
def early():
    log.msg("before the tail came", facility="app", level=log.UNUSUAL)
early()
def say():
    log.msg("plain", facility="app", level=log.OPERATIONAL)
    log.msg("positional %s and %d", "x", 4, facility="app")
    log.msg(format="formatted %(v)05.1f of %(t)s", v=2.25, t=(1, "a"), facility="app", level=25)
    log.msg(format="broken %(v)d", v="x", facility="app")
    log.msg("gr\u00fc\u00dfe \u2603 \U0001f600\nand a second line", facility="app")
    log.msg("bytes %r" % b"\x00\xff", raw=b"\x00\xff", level=log.NOISY, nested={"a": [1, (2, {"b": None})]})
    log.msg("numbers", big=10**40, neg=-2**70, nan=float("nan"), t=True)
    try:
        {}["nope"]
    except KeyError:
        log.err(facility="app", level=log.BAD)
    log.msg("the end", facility="app")
class Lines(basic.LineReceiver):
    delimiter = b"\n"
    def lineReceived(self, line):
        if line == b"say": say()
        if line.startswith(b"mark "): log.msg(line.decode()[5:])
    def connectionLost(self, reason):
        reactor.stop()
stdio.StandardIO(Lines())
print("ready", flush=True)
reactor.run()
`

// startFollow runs f and returns its output line by line.
func startFollow(t *testing.T, f tail.Follow) (next func() string, stop func() error) {
	t.Helper()
	r, w := io.Pipe()
	f.Out = w
	if f.Notes == nil {
		f.Notes = t.Output()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(ctx)
		w.Close()
	}()
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	next = func() string {
		t.Helper()
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatal("Run has returned")
			}
			return line
		case <-time.After(60 * time.Second):
			t.Fatal("no line in 60 s")
		}
		return ""
	}
	return next, func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(60 * time.Second):
			t.Fatal("Run did not return in 60 s")
		}
		return nil
	}
}

// until returns the lines up to the first that matches.
func until(t *testing.T, next func() string, pattern string) (lines []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		line := next()
		lines = append(lines, line)
		if re.MatchString(line) {
			return lines
		}
	}
}

// Follow and the original's tail print the same when they follow the same program.
func TestTailBesideOriginal(t *testing.T) {
	dir := t.TempDir()
	furl := filepath.Join(dir, "logport.furl")
	prog := foolscaptest.Start(t, app, furl, strconv.Itoa(testwait.FreePort(t)))
	prog.Expect(t, `^ready`)
	target := target(t, dir)
	for _, args := range [][]string{nil, {"-c"}} {
		cmd := exec.Command(foolscaptest.Tool(t, "flogtool"), append(append([]string{"tail"}, args...), furl)...)
		cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1", "TZ=UTC")
		original := foolscaptest.Run(t, cmd)
		next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, CatchUp: args != nil, Style: tail.Style{Zone: time.UTC}})
		// Both print the versions before they subscribe. The comparison begins with the
		// first event that both show.
		got := []string{"starting.."}
		got = append(got, until(t, next, `^ twisted: `)...)
		var want []string
		wantNext := func() string { return original.Line(t) }
		want = append(want, until(t, wantNext, `^ twisted: `)...)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("our first lines are\n%s\nthe original's are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if args != nil {
			until(t, next, "before the tail came")
			until(t, wantNext, "before the tail came")
		}
		// The program begins to send events after it has answered. Both subscriptions
		// work when both have shown an event.
		await := func(next func() string, text string) chan []string {
			c := make(chan []string, 1)
			go func() { c <- until(t, next, text+"$") }()
			return c
		}
		ours, theirs := await(next, "#hello"), await(wantNext, "#hello")
		tick := time.NewTicker(100 * time.Millisecond)
		for ours != nil || theirs != nil {
			select {
			case <-ours:
				ours = nil
			case <-theirs:
				theirs = nil
			case <-tick.C:
				io.WriteString(prog.Stdin, "mark #hello\n")
			}
		}
		tick.Stop()
		io.WriteString(prog.Stdin, "mark #begin\nsay\nmark #finish\n")
		until(t, next, "#begin$")
		until(t, wantNext, "#begin$")
		got, want = until(t, next, "#finish$"), until(t, wantNext, "#finish$")
		if len(got) < 10 || len(got) != len(want) {
			t.Fatalf("we show\n%s\nthe original shows\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for i := range got {
			// If formatting fails we show the pattern, and the original does not.
			w := strings.Replace(want[i], "[no message] [formatting failed]", "broken %(v)d [formatting failed]", 1)
			if got[i] != w {
				t.Errorf("got  %q\nwant %q", got[i], w)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		original.Kill()
	}
}

// When the program is restarted, Follow reports it, connects again, and continues the saved
// file, which the original can read too.
func TestTailReconnectsAndSaves(t *testing.T) {
	dir := t.TempDir()
	furl := filepath.Join(dir, "logport.furl")
	port := strconv.Itoa(testwait.FreePort(t))
	prog := foolscaptest.Start(t, app, furl, port)
	prog.Expect(t, `^ready`)
	target := target(t, furl)
	for _, name := range []string{"saved.flog", "saved.flog.zst", "saved.flog.bz2"} {
		saved := filepath.Join(dir, name)
		next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, CatchUp: true, SaveTo: saved, Bzip2: bzip2.NewWriter, Style: tail.Style{Zone: time.UTC}})
		until(t, next, "before the tail came")
		io.WriteString(prog.Stdin, "say\n")
		until(t, next, "the end")
		prog.Kill()
		until(t, next, "^Disconnected")
		prog = foolscaptest.Start(t, app, furl, port)
		until(t, next, `^Connected \(to pid`)
		until(t, next, "was restarted")
		if err := stop(); err != nil {
			t.Error(err)
		}
		r, err := flogfile.Open(saved)
		if err != nil {
			t.Fatal(err)
		}
		headers, events := 0, 0
		for {
			l, err := r.Next()
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				break
			}
			if l.Kind == flogfile.KindHeader {
				headers++
			} else if events++; len(l.From()) != 8 {
				t.Errorf("saved from %q", l.From())
			}
		}
		r.Close()
		if headers != 2 || events < 10 {
			t.Errorf("%s: %d headers, %d events", name, headers, events)
		}
		if !strings.HasSuffix(name, ".zst") { // which the original does not know
			if out, err := exec.Command(foolscaptest.Tool(t, "flogtool"), "dump", "-n", saved).CombinedOutput(); err != nil {
				t.Errorf("the original cannot read what we saved: %v\n%s", err, out)
			}
		}
	}
}

// publisher registers an object with these methods in place of a log publisher.
func publisher(t *testing.T, features string, methods map[string]func(*rpc.Call) (any, error)) tail.Target {
	t.Helper()
	tub, err := rpc.NewTub(rpc.Config{Features: features})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	addr, err := tub.Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := tub.SetLocation("tcp:" + addr.String()); err != nil {
		t.Fatal(err)
	}
	furl, err := tub.Register(&rpc.Methods{Name: "RILogPublisher.foolscap.lothar.com", Map: methods}, "")
	if err != nil {
		t.Fatal(err)
	}
	return target(t, furl.String())
}

// openLogport opens a logport of ours and returns it as a target.
func openLogport(t *testing.T) (*logport.Logport, tail.Target) {
	t.Helper()
	lp, err := logport.Open(logport.Config{Name: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lp.Close() })
	furl, err := lp.FURL()
	if err != nil {
		t.Fatal(err)
	}
	return lp, target(t, furl)
}

func target(t *testing.T, text string) tail.Target {
	t.Helper()
	target, err := tail.ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// Our publisher selects the events itself, and with CatchUp sends those in its rings first.
func TestTailOurs(t *testing.T) {
	lp, target := openLogport(t)
	only, err := filter.Compile(`attrs.ms > 5 && program == "orders" && from == "` + target.Name + `"`)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(lp.Handler())
	log.Info("early", "facility", "net.http", "ms", 9)
	log.Info("early and fast", "facility", "net.http", "ms", 1)
	facility := "net"
	next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target, target}, CatchUp: true, Select: &tail.Select{Only: only, Facility: &facility}, Style: tail.Style{Zone: time.UTC}})
	early := until(t, next, `L20 \[\]#\d+ early$`)
	if line := early[len(early)-1]; !strings.HasPrefix(line, target.Name+"| ") {
		t.Errorf("with two targets the line is %q", line)
	}
	until(t, next, ` early$`) // from the other connection
	log.Info("network", "facility", "network", "ms", 99)
	log.Info("fast", "facility", "net", "ms", 2)
	log.Warn("slow", "facility", "net", "ms", 99)
	for _, line := range until(t, next, " slow$") {
		if strings.Contains(line, "#") && !strings.HasSuffix(line, " slow") {
			t.Errorf("shown, though it is not selected: %q", line)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Very old publishers have neither get_pid nor get_versions.
func TestTailOldPublisher(t *testing.T) {
	events := make(chan *rpc.Remote, 1)
	target := publisher(t, "", map[string]func(*rpc.Call) (any, error){
		"subscribe_to_all": func(c *rpc.Call) (any, error) {
			args, err := c.Bind("observer", "catch_up")
			if err != nil {
				return nil, err
			}
			if observer, ok := args[0].(*rpc.Remote); ok {
				events <- observer
			}
			return &rpc.Methods{Name: "RISubscription.foolscap.lothar.com"}, nil
		},
	})
	for _, style := range []tail.Style{{Zone: time.UTC}, {Zone: time.UTC, Verbose: true}, {Zone: time.UTC, Form: tail.FormJSON}} {
		next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, Style: style})
		until(t, next, `^Connected \(unable to get pid\)$`)
		until(t, next, `^Remote Versions:$`)
		observer := <-events
		ev := event.Dict{{Key: "message", Value: []byte("of Python 2")}, {Key: "num", Value: int64(5)}, {Key: "time", Value: 1.25}, {Key: "pair", Value: event.Tuple{int64(1), nil}}}
		if err := observer.Call(t.Context(), "msg", rpc.Pos(ev), nil); err != nil {
			t.Error(err)
		}
		// A value that is not an event is refused, and Run continues.
		if err := observer.Call(t.Context(), "msg", rpc.Pos("text"), nil); err == nil {
			t.Error("a text was accepted as an event")
		}
		want := "00:00:01.250 L20 []#5 of Python 2"
		switch {
		case style.Verbose:
			want = `{"message": {"@": "UnJSONable", `
		case style.Form == tail.FormJSON:
			want = `{"from": "` + string(target.FURL.Tub)[:8] + `", "rx_time": `
		}
		if got := next(); !strings.HasPrefix(got, want) {
			t.Errorf("shown as %q, want %q", got, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// Run returns if a target can never be followed.
func TestTailHopeless(t *testing.T) {
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	addr, err := tub.Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for furl, want := range map[string]string{
		"pb://" + string(tub.ID()) + "@tcp:" + addr.String() + "/nosuchname":         "unable to find reference",
		"pb://6wz7odzytw7yy6sfhfxtulw2azhdvmzk@tcp:" + addr.String() + "/nosuchname": "unknown TubID",
	} {
		target := target(t, furl)
		f := tail.Follow{Targets: []tail.Target{target}, Out: io.Discard, Notes: t.Output()}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		err = f.Run(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "nosuchname/") {
			t.Errorf("Run = %v, want %q", err, want)
		}
	}
}

// A gap that our publisher reports is shown as a line at its place.
func TestTailStatesGaps(t *testing.T) {
	observers := make(chan *rpc.Remote, 1)
	target := publisher(t, wire.Features, map[string]func(*rpc.Call) (any, error){
		"get_pid":      func(*rpc.Call) (any, error) { return 7, nil },
		"get_versions": func(*rpc.Call) (any, error) { return event.Dict{}, nil },
		"flog_subscribe": func(c *rpc.Call) (any, error) {
			observers <- c.Args.Pos[0].(*rpc.Remote)
			return &rpc.Methods{Name: "RISubscription.foolscap.lothar.com"}, nil
		},
	})
	next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, Style: tail.Style{Zone: time.UTC}})
	until(t, next, `^Remote Versions:$`)
	observer := <-observers
	for _, gap := range []struct{ dropped, from, until int64 }{{412, 1001, 1413}, {3, 2000, 3000}} {
		info := event.Dict{{Key: "incarnation", Value: "84e8b6d1ce3c35a4"}, {Key: "dropped", Value: gap.dropped},
			{Key: "dropped_from", Value: gap.from}, {Key: "dropped_until", Value: gap.until}, {Key: "until", Value: gap.until}}
		if err := observer.Call(t.Context(), "batch", rpc.Pos([]byte{}, info), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"412 events dropped here, numbers 1001-1412", "3 events dropped here, among numbers 2000-2999"} {
		if got := next(); got != want {
			t.Errorf("shown as %q, want %q", got, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Run returns nil if a signal ended its context, and the cause if something else did.
func TestTailEnds(t *testing.T) {
	_, target := openLogport(t)
	run := func(ctx context.Context, end func()) error {
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			f := tail.Follow{Targets: []tail.Target{target}, Out: w, Notes: t.Output()}
			ended <- f.Run(ctx)
			w.Close()
		}()
		lines := bufio.NewScanner(r)
		until(t, func() string {
			if !lines.Scan() {
				t.Fatal("Run has returned")
			}
			return lines.Text()
		}, `^Connected`)
		end()
		io.Copy(io.Discard, r)
		return <-ended
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGUSR1)
	defer stop()
	if err := run(ctx, func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1) }); err != nil {
		t.Errorf("after a signal Run = %v", err)
	}
	cause := errors.New("the test ends it")
	other, cancel := context.WithCancelCause(t.Context())
	if err := run(other, func() { cancel(cause) }); err != cause {
		t.Errorf("Run = %v, want %v", err, cause)
	}
}
