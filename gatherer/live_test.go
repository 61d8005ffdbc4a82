package gatherer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/gatherer/bus"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// pythonApp is a program of the original: a Tub, a log directory, and a
// gatherer's FURL. Each line of its standard input is run as Python.
const pythonApp = `
import os, sys
from twisted.internet import reactor, stdio
from twisted.protocols.basic import LineReceiver
from foolscap.api import Tub
from foolscap.logging import log
from foolscap.logging.incident import IncidentReporter

basedir, furl = sys.argv[1:3]
log.setLogDir(os.path.join(basedir, "incidents"))
tub = Tub(certFile=os.path.join(basedir, "tub.pem"))
if furl:
    tub.setOption("log-gatherer-furl", furl)
tub.startService()
from foolscap.util import allocate_tcp_port
port = allocate_tcp_port()
tub.listenOn("tcp:%d:interface=127.0.0.1" % port)
tub.setLocation("tcp:127.0.0.1:%d" % port)

class Commands(LineReceiver):
    delimiter = b"\n"
    def lineReceived(self, line):
        exec(line.decode("utf-8"), globals())
        print("done", flush=True)
    def connectionLost(self, reason):
        reactor.stop()

def recorded(name, trigger):
    print("recorded", name, flush=True)
log.theLogger.addImmediateIncidentObserver(recorded)

stdio.StandardIO(Commands())
print("tub", tub.tubID, flush=True)
reactor.run()
`

// app is a running pythonApp.
type app struct {
	*foolscaptest.Proc
	tub string
	dir string
}

func startApp(t *testing.T, dir, furl string) *app {
	t.Helper()
	a := &app{Proc: foolscaptest.Start(t, pythonApp, dir, furl), dir: dir}
	a.tub = a.Expect(t, `^tub (\w+)$`)[1]
	return a
}

// do runs a line of Python.
func (a *app) do(t *testing.T, line string) {
	t.Helper()
	a.Say(t, line)
	a.Expect(t, `^done$`)
}

// incidents returns the names of the complete incidents the program has.
func (a *app) incidents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.dir, "incidents", "incident-*.flog.bz2"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".flog.bz2")
	}
	return files
}

// create makes a gatherer's directory that listens on loopback, and its NATS
// server too.
func create(t *testing.T, opts Options) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "g")
	port := strconv.Itoa(testwait.FreePort(t))
	opts.Port, opts.Location = "tcp:"+port+":interface=127.0.0.1", "tcp:127.0.0.1:"+port
	if err := Create(dir, opts); err != nil {
		t.Fatal(err)
	}
	set(t, dir, `listen = ""`, `listen = "127.0.0.1:0"`)
	return dir
}

// set replaces a setting in the gatherer.toml of dir.
func set(t *testing.T, dir, from, to string) {
	t.Helper()
	name := filepath.Join(dir, settingsFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), from) != 1 {
		t.Fatalf("%s does not have %q once", name, from)
	}
	writeFile(t, name, strings.Replace(string(text), from, to, 1))
}

// jetStream connects to b as a reader does.
func jetStream(t *testing.T, b *bus.Bus) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("nats://" + b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// stream returns the stream of incidents.
func stream(t *testing.T, b *bus.Bus) jetstream.Stream {
	t.Helper()
	s, err := jetStream(t, b).Stream(t.Context(), "FLOG_INCIDENTS")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listAll returns all lines of all files of classified/, as "CATEGORY line".
func listAll(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "classified", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(text)) {
			lines = append(lines, filepath.Base(f)+" "+strings.TrimSuffix(l, "\n"))
		}
	}
	return lines
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// running is a gatherer under test.
type running struct {
	*Gatherer
	dir    string
	furl   string
	logged *testwait.Log
	stop   func() // ends it and waits; may be repeated
}

// start runs the gatherer of dir until the end of the test. It does not wait
// long for an incident that may still be growing.
func start(t *testing.T, dir string, tune ...func(*Gatherer)) *running {
	t.Helper()
	r := &running{dir: dir, logged: testwait.NewLog(t)}
	furl := make(chan string, 1)
	g, err := New(Config{Dir: dir, Log: slog.New(r.logged), Waiting: func(f string) { furl <- f }})
	if err != nil {
		t.Fatal(err)
	}
	r.Gatherer = g
	g.unfinishedFor = 500 * time.Millisecond
	for _, f := range tune {
		f(g)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err, ok := <-ended; ok {
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			close(ended)
		}
	}
	t.Cleanup(r.stop)
	select {
	case r.furl = <-furl:
	case err := <-ended:
		t.Fatalf("Run: %v", err)
	case <-time.After(60 * time.Second):
		t.Fatal("the gatherer does not start")
	}
	return r
}

// eventually returns when a line of the log so far contains all the words. The
// steps of an incident after its storage and its session go on side by side.
func (r *running) eventually(t *testing.T, words ...string) {
	t.Helper()
	testwait.Eventually(t, strings.Join(words, " "), func() bool { return r.logged.Count(words...) > 0 })
}

// stored returns what the gatherer has stored, in order.
func stored(g *running) []archive.Stored {
	return g.archive.Next(archive.ID{}, g.archive.Len(), func(archive.State) bool { return true })
}

// readEvents returns the header of a flog file, if it has one, and its events.
func readEvents(t *testing.T, file string) (header event.Dict, events []*event.Event) {
	t.Helper()
	r, err := flogfile.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		line, err := r.Next()
		if err == io.EOF {
			return header, events
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if line.Kind&flogfile.KindHeader != 0 {
			header = line.Header()
			continue
		}
		ev, err := line.Event()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		events = append(events, ev)
	}
}

func messages(events []*event.Event) []string {
	var m []string
	for _, e := range events {
		m = append(m, pytext.Format(e))
	}
	return m
}

// TestPythonIncident: an incident of a program of the original arrives with all
// events as they were logged, and a rule classifies it.
func TestPythonIncident(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	writeFile(t, filepath.Join(dir, "classify_pump.expr"), "facility == \"pump\" && attrs.bar > 3 ? [\"pump\", \"overpressure\"] : nil\n")
	g := start(t, dir)
	received := make(chan string, 10)
	err := g.Subscribe(t.Context(), "flog.incident.>", func(subject string, payload []byte) {
		received <- subject + " " + string(payload)
	})
	if err != nil {
		t.Fatal(err)
	}
	a := startApp(t, t.TempDir(), g.furl)
	g.logged.Wait(t, "gathering incidents", a.tub)

	for i := range 20 {
		a.do(t, fmt.Sprintf(`log.msg("noisy %d", level=log.NOISY, facility="pump")`, i))
	}
	a.do(t, `log.msg("ünïcode ☃ 𝄞", level=log.NOISY)`)
	a.do(t, `log.msg("bytes", raw=b"\x00\xff", level=log.NOISY)`)
	a.do(t, `log.msg(format="nested %(n)s", n={"a": [1, (2.5, None)], "b": True, "big": 10**30}, level=log.NOISY)`)
	a.Say(t, `exec("try:\n    {}['nope']\nexcept KeyError:\n    log.err(None, 'on purpose')\n")`)
	a.Expect(t, "^done$")
	a.do(t, `log.msg("too much", level=log.WEIRD, facility="pump", bar=5)`)
	a.do(t, `log.msg("afterwards", level=log.NOISY)`)

	// The window is 5 s long; what follows may take 10 s more.
	begin := time.Now()
	said := g.logged.Wait(t, "incident classified", a.tub)
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the incident was here %v after its trigger", took)
	}
	if !strings.Contains(said, "[overpressure pump]") {
		t.Errorf("the gatherer said %q, want both categories", said)
	}
	names := a.incidents(t)
	if len(names) != 1 {
		t.Fatalf("the program has the incidents %q, want one", names)
	}
	rel := "incidents/" + a.tub + "/" + names[0] + ".flog.zst"
	want := []string{"overpressure " + rel, "pump " + rel}
	if got := listAll(t, dir); !slices.Equal(got, want) {
		t.Errorf("classified/ has %q, want %q", got, want)
	}

	// The program's own file is what it meant to send.
	file := filepath.Join(dir, filepath.FromSlash(rel))
	header, events := readEvents(t, file)
	ownHeader, ownEvents := readEvents(t, filepath.Join(a.dir, "incidents", names[0]+".flog.bz2"))
	if got, want := canonical(header), canonical(ownHeader); got != want {
		t.Errorf("header is\n%s\nwant\n%s", got, want)
	}
	if len(events) != len(ownEvents) {
		t.Fatalf("%d events, the program's file has %d", len(events), len(ownEvents))
	}
	for i := range events {
		if got, want := canonical(events[i].Dict()), canonical(ownEvents[i].Dict()); got != want {
			t.Errorf("event %d is\n%s\nwant\n%s", i, got, want)
		}
	}
	text := strings.Join(messages(events), "\n")
	for _, want := range []string{"noisy 0\nnoisy 1\n", "ünïcode ☃ 𝄞", "nested {'a': [1, [2.5, None]], 'b': True, 'big': 1000000000000000000000000000000}", "too much"} {
		if !strings.Contains(text, want) {
			t.Errorf("the incident's events have no %q:\n%s", want, text)
		}
	}

	for _, category := range []string{"overpressure", "pump"} {
		var m string
		select {
		case m = <-received:
		case <-time.After(20 * time.Second):
			t.Fatalf("no message for %s", category)
		}
		subject, payload, _ := strings.Cut(m, " ")
		want := "flog.incident." + category + "." + ownEvents[0].Incarnation() + "." + names[0]
		if subject != want {
			t.Errorf("subject %q, want %q", subject, want)
		}
		var sum struct {
			Name, File, Sha256, Object, Text string
			Tubs, Categories                 []string
			Events                           int
			Trigger                          map[string]any
		}
		if err := json.Unmarshal([]byte(payload), &sum); err != nil {
			t.Fatal(err)
		}
		if sum.Name != names[0] || sum.File != rel || sum.Events != len(events) || sum.Text != "too much" ||
			!slices.Equal(sum.Tubs, []string{a.tub}) || !slices.Equal(sum.Categories, []string{"overpressure", "pump"}) ||
			sum.Trigger["bar"] != 5.0 {
			t.Errorf("summary is %s", payload)
		}
		store, err := jetStream(t, g.bus).ObjectStore(t.Context(), incident.ObjectStore)
		if err != nil {
			t.Fatal(err)
		}
		object, err := store.GetBytes(t.Context(), sum.Object)
		stored, fileErr := os.ReadFile(file)
		if err != nil || fileErr != nil || string(object) != string(stored) {
			t.Errorf("object %q is not the file: %v %v", sum.Object, err, fileErr)
		}
	}
}

// canonical returns d as JSON with the keys sorted at every depth, as the wire
// protocol sorts them.
func canonical(d event.Dict) string {
	var v any
	if err := json.Unmarshal(event.AppendJSON(nil, event.Finite(d)), &v); err != nil {
		return err.Error()
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// TestPythonLog: every event of a program of the original is in the log file when
// the program has its answer, with the TubID that the program has proved.
func TestPythonLog(t *testing.T) {
	dir := create(t, Options{})
	g := start(t, dir)
	published := make(chan string, 100)
	if err := g.Subscribe(t.Context(), "flog.event.>", func(subject string, payload []byte) {
		published <- subject
	}); err != nil {
		t.Fatal(err)
	}
	a := startApp(t, t.TempDir(), g.furl)
	g.logged.Wait(t, "gathering events", a.tub)
	a.do(t, `[log.msg("event %d" % i, level=log.NOISY, facility="x", raw=b"\x00") for i in range(500)] and None`)
	a.do(t, `log.msg("important", level=log.BAD, facility="x.y z")`)
	select {
	case subject := <-published:
		if want := "flog.event." + a.tub + ".BAD.x.y%20z"; subject != want {
			t.Errorf("subject is %q, want %q", subject, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the important event was not published")
	}
	g.Reload()
	g.logged.Wait(t, "log rotated")
	a.do(t, `log.msg("in the next file", level=log.BAD)`)
	<-published
	g.stop()

	files, err := filepath.Glob(filepath.Join(dir, "from-*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files are %q (%v), want two", files, err)
	}
	var all []string
	for _, f := range files {
		header, events := readEvents(t, f)
		if kind, _ := header.Get("type"); kind != "gatherer" {
			t.Errorf("the header of %s is %v", f, header)
		}
		for _, e := range events {
			if m := pytext.Format(e); strings.HasPrefix(m, "event ") || e.Level() == event.Bad {
				all = append(all, m)
			}
		}
	}
	if len(all) != 502 || all[0] != "event 0" || all[499] != "event 499" || all[501] != "in the next file" {
		t.Errorf("%d events, want the 502 that were logged, in order", len(all))
	}
}

// TestCatchUp: the incidents that a process recorded before it knew the gatherer are
// fetched, and so are those that it records later.
func TestCatchUp(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	base := t.TempDir()
	a := startApp(t, base, "")
	a.do(t, `IncidentReporter.TRAILING_DELAY = None`)
	for _, text := range []string{"first", "second"} {
		a.Say(t, `log.msg("`+text+`", level=log.WEIRD)`)
		a.Expect(t, "^recorded ")
	}
	a.Kill()
	names := a.incidents(t)
	if len(names) != 2 {
		t.Fatalf("the program recorded %q", names)
	}
	g := start(t, dir)
	a = startApp(t, base, g.furl)
	for range names {
		g.logged.Wait(t, "incident classified", a.tub)
	}
	if got := listAll(t, dir); len(got) != 2 {
		t.Errorf("classified/ has %q, want two", got)
	}
	// The last of a catch-up may still be growing: it is fetched once more
	// before it counts as settled.
	testwait.Eventually(t, "a second fetch", func() bool {
		return g.logged.Count("fetching incident", max(names[0], names[1])) == 2
	})
	a.do(t, `log.msg("third", level=log.WEIRD)`)
	g.logged.Wait(t, "incident classified", a.tub)
	all := a.incidents(t)
	slices.Sort(all)
	if all[2] > max(names[0], names[1]) { // within one second it may not be
		g.eventually(t, "all incidents are here", all[2])
	}
	latest, err := os.ReadFile(filepath.Join(dir, "incidents", a.tub, "latest"))
	if err != nil || string(latest) != all[2]+"\n" {
		t.Errorf("latest is %q (%v), want the last of %q", latest, err, all)
	}
	if got := listAll(t, dir); len(got) != 3 {
		t.Errorf("classified/ has %q, want three", got)
	}
}

// TestRules: a rule that does not compile is reported with its place, and the others
// are used; so are rules that are added while the gatherer runs.
func TestRules(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	writeFile(t, filepath.Join(dir, "classify_bad.expr"), "// Never right.\nlevel >> 3 ? \"x\" : nil\n")
	writeFile(t, filepath.Join(dir, "classify_good.expr"), "message == \"broke\" ? \"good\" : nil\n")
	g := start(t, dir)
	if said := g.logged.Wait(t, "rule cannot be used"); !strings.Contains(said, "classify_bad.expr:2:8: ") {
		t.Errorf("the gatherer said %q, want the file, the line and the column", said)
	}
	p := newPeer(t, g.furl)
	o := p.observer(t)
	offer := func(name string) {
		t.Helper()
		p.has(name, 1)
		if err := o.Call(t.Context(), "new_incident", rpc.Pos([]byte(name), trigger(0)), nil); err != nil {
			t.Fatal(err)
		}
	}
	offer(incidentName(0))
	g.logged.Wait(t, "incident classified", incidentName(0), "[good]")

	writeFile(t, filepath.Join(dir, "classify_new.expr"), "len(events) == 1 ? \"new\" : nil\n")
	writeFile(t, filepath.Join(dir, "classify_good.expr"), "message == \"broke\" ? \"good\" nil\n")
	g.Reload()
	g.logged.Wait(t, "rule cannot be used", "classify_good.expr:1:")
	offer(incidentName(1))
	g.logged.Wait(t, "incident classified", incidentName(1), "[good new]") // the last good version stays in force

	// Stored incidents keep what they have; one that no file names is looked at
	// again at the next start.
	g.stop()
	if err := os.Remove(filepath.Join(dir, "classified", "good")); err != nil {
		t.Fatal(err)
	}
	g = start(t, dir)
	g.logged.Wait(t, "stored incidents are classified", "anew=1")
	path := "new incidents/" + string(p.tub.ID()) + "/%s.flog.zst"
	want := []string{fmt.Sprintf(path, incidentName(1)), fmt.Sprintf(path, incidentName(0))}
	if got := listAll(t, dir); !slices.Equal(got, want) {
		t.Errorf("classified/ has %q, want %q", got, want)
	}
}
