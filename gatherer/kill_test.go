package gatherer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flogtool/flogtool/gatherer/bus"
	"github.com/flogtool/flogtool/gatherer/eventlog"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// TestMain runs a gatherer, in a process that a test can kill, if the environment
// names its directory. It logs to standard output.
func TestMain(m *testing.M) {
	dir := os.Getenv("FLOG_TEST_GATHERER")
	if dir == "" {
		os.Exit(m.Run())
	}
	g, err := New(Config{
		Dir:     dir,
		Log:     slog.New(slog.NewTextHandler(io.MultiWriter(os.Stdout, os.Stderr), nil)), // the latter is shown when the test fails
		Waiting: func(furl string) { fmt.Println("Gatherer waiting at:", furl) },
	})
	if err == nil {
		g.unfinishedFor = 100 * time.Millisecond
		err = g.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// startProcess runs a gatherer in another process.
func startProcess(t *testing.T, dir string) (p *foolscaptest.Proc, furl string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FLOG_TEST_GATHERER="+dir)
	p = foolscaptest.Run(t, cmd)
	return p, p.Expect(t, "^Gatherer waiting at: (.*)$")[1]
}

// check fails the test unless each of the incidents of tub is exactly once in the
// archive, in classified/ and, after all have been published, in the stream and in
// the ledger.
func check(t *testing.T, dir, tub string, incidents []string) {
	t.Helper()
	g := start(t, dir)
	g.logged.Wait(t, "all is published")
	var want, listed []string
	for _, name := range incidents {
		rel := "incidents/" + tub + "/" + name + ".flog.zst"
		want = append(want, rel)
		listed = append(listed, "unknown "+rel)
	}
	var got []string
	for _, s := range stored(g) {
		got = append(got, s.Path())
		if _, events := readEvents(t, filepath.Join(dir, s.Path())); len(events) == 0 {
			t.Errorf("%s has no events", s.Path())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the archive has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	lines := listAll(t, dir)
	slices.Sort(lines)
	if !slices.Equal(lines, listed) {
		t.Errorf("classified/ has\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(listed, "\n"))
	}
	info, err := stream(t, g.bus).Info(t.Context())
	if err != nil || info.State.Msgs != uint64(len(incidents)) || info.State.NumSubjects != uint64(len(incidents)) {
		t.Errorf("the stream has %d messages on %d subjects (%v), want %d",
			info.State.Msgs, info.State.NumSubjects, err, len(incidents))
	}
	ledger, err := os.ReadFile(filepath.Join(dir, "published"))
	if n := strings.Count(string(ledger), "\n"); err != nil || n != len(incidents) {
		t.Errorf("the ledger has %d lines (%v), want %d", n, err, len(incidents))
	}
	g.stop()
}

// TestKilledBeforeClassification: the gatherer is killed when it has stored an
// incident of a program of the original and has not classified it, because a
// directory is in the place of a file of classified/.
func TestKilledBeforeClassification(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	base := t.TempDir()
	a := startApp(t, base, "")
	a.do(t, `IncidentReporter.TRAILING_DELAY = None`)
	for i := range 3 {
		a.Say(t, fmt.Sprintf(`log.msg("trouble %d", level=log.WEIRD)`, i))
		a.Expect(t, "^recorded ")
	}
	a.Kill()
	names := a.incidents(t)

	inTheWay := filepath.Join(dir, "classified", "unknown")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	p, furl := startProcess(t, dir)
	a = startApp(t, base, furl)
	p.Expect(t, "incident stored")
	p.Expect(t, "classify incident; it is tried again")
	p.Kill()
	a.Kill()
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}

	p, furl = startProcess(t, dir)
	startApp(t, base, furl)
	testwait.Eventually(t, "all incidents classified", func() bool { return len(listAll(t, dir)) == len(names) })
	p.Kill()
	slices.Sort(names)
	check(t, dir, a.tub, names)
}

// TestKilledAnywhere kills the gatherer a dozen times while it fetches,
// classifies and publishes forty incidents.
func TestKilledAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := create(t, Options{Incidents: true})
	pub := &peer{}
	var names []string
	for i := range 40 {
		names = append(names, incidentName(i))
	}
	for round := 0; ; round++ {
		p, furl := startProcess(t, dir)
		if round == 0 {
			pub = newPeer(t, furl)
			for _, name := range names {
				pub.has(name, 5)
			}
		}
		pub.connect(t, furl)
		if round == 12 {
			p.Expect(t, "incident published.*"+names[39])
			p.Kill()
			break
		}
		// Somewhere in the few milliseconds of one incident.
		event := []string{"fetching incident", "incident stored", "incident classified", "incident published"}[rng.IntN(4)]
		for range 1 + rng.IntN(3) {
			p.Expect(t, event+"|incident published.*"+names[39])
		}
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		p.Kill()
	}
	check(t, dir, string(pub.tub.ID()), names)
}

// TestOriginalDirectories: a directory in which the original ran is taken over with
// its key, its FURL and its incidents.
func TestOriginalDirectories(t *testing.T) {
	tool, python := foolscaptest.Tool(t, "flogtool"), foolscaptest.Python(t)
	for _, kind := range []string{"create-gatherer", "create-incident-gatherer"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "original")
			port := strconv.Itoa(testwait.FreePort(t))
			args := []string{kind, "--port", "tcp:" + port + ":interface=127.0.0.1", "--location", "tcp:127.0.0.1:" + port}
			if kind == "create-gatherer" {
				args = append(args, "--rotate", "3600", "--bzip")
			}
			if out, err := exec.Command(tool, append(args, dir)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := exec.Command(python, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--python", "gatherer.tac")
			cmd.Dir = dir
			original := foolscaptest.Run(t, cmd)
			furl := original.Expect(t, "Gatherer waiting at: (pb://.*)$")[1]
			base := t.TempDir()
			a := startApp(t, base, furl)
			a.do(t, `IncidentReporter.TRAILING_DELAY = None`)
			if kind == "create-incident-gatherer" {
				original.Expect(t, "connected to")
				a.Say(t, `log.msg("before", level=log.WEIRD)`)
				original.Expect(t, "classified incidents/")
			}
			a.Kill()
			original.Signal(syscall.SIGTERM)
			original.Wait(t)

			g := start(t, dir)
			if g.furl != furl {
				t.Errorf("the FURL is %s, want the original's %s", g.furl, furl)
			}
			if kind == "create-gatherer" {
				if r, c := time.Duration(g.settings.Logs.Rotate), g.settings.Logs.Compress; r != time.Hour || c != eventlog.Bzip2 {
					t.Errorf("rotates after %v, compresses as %q; want what gatherer.tac says", r, c)
				}
				startApp(t, base, furl)
				g.logged.Wait(t, "gathering events")
				g.Reload()
				g.logged.Wait(t, "log file compressed")
				return
			}
			a = startApp(t, base, furl)
			a.do(t, `IncidentReporter.TRAILING_DELAY = None`)
			g.logged.Wait(t, "gathering incidents", a.tub, "after=incident-")
			a.do(t, `log.msg("after", level=log.WEIRD)`)
			g.logged.Wait(t, "incident published")
			if got := listAll(t, dir); len(got) != 2 || !strings.HasSuffix(got[0], ".bz2") || !strings.HasSuffix(got[1], ".zst") {
				t.Errorf("classified/ has %q, want the original's incident and ours", got)
			}
			g.stop()
			kept, err := durable.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			b, err := bus.Open(kept, bus.Config{
				Listen: "127.0.0.1:0", MaxStore: 1 << 30, MaxAge: time.Hour, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			info, err := stream(t, b).Info(t.Context())
			if err != nil || info.State.Msgs != 1 {
				t.Errorf("%d messages published (%v), want only the new one", info.State.Msgs, err)
			}
			if _, err := os.Stat(filepath.Join(dir, settingsFile)); err == nil {
				t.Errorf("a %s was written into a directory of the original", settingsFile)
			}
		})
	}
}
