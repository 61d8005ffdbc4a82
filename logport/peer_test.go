package logport_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

var eventLine = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d\d\d) L(\d+) \[\]#(\d+) (.*)$`)

// TestOriginalTail: the original's `flogtool tail --catch-up` prints what the
// program logged before and what it logs after, line by line.
func TestOriginalTail(t *testing.T) {
	tool := foolscaptest.Tool(t, "flogtool")
	dir := t.TempDir()
	lp := open(t, logport.Config{Dir: dir})
	lp.AddVersion("app", "2.1")
	ctx := context.Background()
	log := func(i int) {
		lp.Log(ctx, slog.LevelInfo, fmt.Sprintf("event %d of the program: 100%% ünï", i), logport.Facility("app"), slog.Int("i", i))
		lp.Log(ctx, slog.LevelDebug, "", logport.Format("%(what)s took %(ms).1f ms"), slog.String("what", "query"), slog.Float64("ms", 2.25))
	}
	for i := range 20 {
		log(i)
	}
	cmd := exec.Command(tool, "tail", "--catch-up", dir)
	cmd.Env = append(os.Environ(), "TZ=UTC", "PYTHONUNBUFFERED=1")
	tail := foolscaptest.Run(t, cmd)
	tail.Expect(t, fmt.Sprintf(`^Connected \(to pid %d\)$`, os.Getpid()))
	tail.Expect(t, `^Remote Versions:$`)
	tail.Expect(t, `^ app: 2.1$`)
	var lines []string
	next := func() { lines = append(lines, tail.Expect(t, eventLine.String())[0]) }
	for range 40 {
		next()
	}
	for i := 20; i < 30; i++ {
		log(i)
	}
	for range 20 {
		next()
	}
	var want []string
	for e := range lp.Buffered() {
		if strings.HasPrefix(e.Facility(), "flogtool") {
			continue
		}
		n, _ := e.Num()
		want = append(want, fmt.Sprintf("%s L%d []#%d %s", e.Time().Format("15:04:05.000"), int(e.Level()), n, pytext.Format(e)))
	}
	if got, want := strings.Join(lines, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("the original printed\n%s\nwant\n%s", got, want)
	}
}

// originalGatherer makes and runs a gatherer of the original and returns its
// directory and FURL.
func originalGatherer(t *testing.T, kind string) (dir, furl string) {
	t.Helper()
	tool, twistd := foolscaptest.Tool(t, "flogtool"), foolscaptest.Tool(t, "twistd3")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir = filepath.Join(t.TempDir(), "g")
	out, err := exec.Command(tool, kind, "--port", fmt.Sprintf("tcp:%d:interface=127.0.0.1", port),
		"--location", fmt.Sprintf("tcp:127.0.0.1:%d", port), dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", kind, err, out)
	}
	cmd := exec.Command(twistd, "--nodaemon", "--python", "gatherer.tac")
	cmd.Dir = dir
	p := foolscaptest.Run(t, cmd)
	p.Expect(t, `Gatherer waiting at: (pb://\S+)`)
	data, err := os.ReadFile(filepath.Join(dir, "log_gatherer.furl"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, strings.TrimSpace(string(data))
}

// readEvents returns the events of all flog files that match.
func readEvents(t *testing.T, pattern string) (from []string, events []*event.Event) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		r, err := flogfile.Open(file)
		if err != nil {
			continue // being written
		}
		for {
			line, err := r.Next()
			if err != nil {
				if err != io.EOF {
					break
				}
				break
			}
			if line.Kind&flogfile.KindEvent == 0 {
				continue
			}
			e, err := line.Event()
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
			from = append(from, line.From())
		}
		r.Close()
	}
	return from, events
}

// messages returns the messages of events of the facility app.
func messages(events []*event.Event) []string {
	var m []string
	for _, e := range events {
		if e.Facility() == "app" {
			m = append(m, e.Text("message"))
		}
	}
	return m
}

// TestOriginalLogGatherer: a process that listens nowhere is gathered by the
// original log gatherer, whose FURL it reads from a file that comes later.
func TestOriginalLogGatherer(t *testing.T) {
	dir, furl := originalGatherer(t, "create-gatherer")
	furls := filepath.Join(t.TempDir(), "gatherers.furl")
	lp := open(t, logport.Config{Listen: "off", Gatherers: []string{furls}})
	if _, err := lp.FURL(); err == nil {
		t.Error("a logport that listens nowhere has a FURL")
	}
	if err := os.WriteFile(furls, []byte("# gatherers\n\n"+furl+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the gatherer's subscription", func() bool { return lp.Stats().Subscribers == 1 })
	var want []string
	for i := range 300 {
		m := fmt.Sprint("gathered ", i)
		lp.Log(context.Background(), slog.LevelDebug, m, logport.Facility("app"))
		want = append(want, m)
	}
	testwait.Eventually(t, "300 events in the gatherer's file", func() bool {
		_, events := readEvents(t, filepath.Join(dir, "from-*.flog"))
		return len(messages(events)) >= len(want)
	})
	_, events := readEvents(t, filepath.Join(dir, "from-*.flog"))
	if got := messages(events); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the gatherer has %q", got)
	}
}

// TestOriginalIncidentGatherer: the original incident gatherer fetches an
// incident that was there before it connected, and one that came later.
func TestOriginalIncidentGatherer(t *testing.T) {
	gathererDir, furl := originalGatherer(t, "create-incident-gatherer")
	dir := t.TempDir()
	ctx := context.Background()
	declare := func(lp *logport.Logport, m string) {
		lp.Log(ctx, slog.LevelDebug, m+" is coming", logport.Facility("app"))
		lp.Log(ctx, slog.LevelWarn, m, logport.Facility("app"), slog.Float64("x", 1.5), slog.Any("list", []any{1, "a", nil}))
		if err := lp.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cfg := logport.Config{Dir: dir}
	lp, err := logport.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	declare(lp, "old incident")
	lp.Close()

	cfg.Gatherers = []string{furl}
	lp = open(t, cfg)
	stored := func() int {
		files, _ := filepath.Glob(filepath.Join(gathererDir, "incidents", "*", "incident-*.flog.bz2"))
		return len(files)
	}
	testwait.Eventually(t, "the old incident", func() bool { return stored() == 1 })
	declare(lp, "new incident")
	testwait.Eventually(t, "the new incident", func() bool { return stored() == 2 })
	testwait.Eventually(t, "its classification", func() bool {
		data, _ := os.ReadFile(filepath.Join(gathererDir, "classified", "unknown"))
		return strings.Count(string(data), "\n") == 2
	})
	from, events := readEvents(t, filepath.Join(gathererDir, "incidents", "*", "*.bz2"))
	if got := strings.Join(messages(events), ", "); got != "old incident is coming, old incident, new incident is coming, new incident" {
		t.Errorf("the gatherer has %q", got)
	}
	own, _ := lp.FURL()
	for _, f := range from {
		if !strings.HasPrefix(own, "pb://"+f+"@") {
			t.Errorf("an event is from %q, want this Tub of %s", f, own)
		}
	}
}

// TestOriginalGathererGetsAll: fifty incidents of one second, under a name of an
// hour from now that a clock since put right has left: the original gatherer
// resumes by names, and fetches every one.
func TestOriginalGathererGetsAll(t *testing.T) {
	gathererDir, furl := originalGatherer(t, "create-incident-gatherer")
	dir := t.TempDir()
	future := "incident-" + time.Now().Add(time.Hour).UTC().Format("2006-01-02--15-04-05Z") + "-mmmmmma"
	if err := os.MkdirAll(filepath.Join(dir, "0", "incidents"), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := flogfile.Create(filepath.Join(dir, "0", "incidents", future+".flog.zst"), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, `{"header": {"type": "incident", "trigger": {"num": 1, "incarnation": ["x", null], "level": 30, "time": 1.0, "message": "m"}, "versions": {}, "pid": 1}}`+"\n")
	w.Close()
	lp := open(t, logport.Config{Dir: dir, Gatherers: []string{furl}, TrailingDelay: -1, IncidentsPerMinute: -1})
	for i := range 50 {
		lp.DeclareIncident(context.Background(), fmt.Sprint("incident ", i))
		lp.Flush(context.Background())
	}
	testwait.Eventually(t, "51 incidents at the gatherer", func() bool {
		files, _ := filepath.Glob(filepath.Join(gathererDir, "incidents", "*", "incident-*.flog.bz2"))
		return len(files) == 51
	})
}

// flood logs as fast as it can, and returns the number of the first event and of
// the one behind the last.
func flood(lp *logport.Logport, n int) (first, until event.Num) {
	for i := range n {
		num := lp.Log(context.Background(), slog.LevelDebug, "flood", logport.Facility("app"), slog.Int("i", i))
		if i == 0 {
			first = num
		}
		until = num + 1
	}
	return first, until
}

// TestOriginalTailUnderOverload: of a flood the original's tail gets what its
// window and queue let through, in order, and what it misses is counted.
func TestOriginalTailUnderOverload(t *testing.T) {
	tool := foolscaptest.Tool(t, "flogtool")
	dir := t.TempDir()
	lp := open(t, logport.Config{Dir: dir})
	cmd := exec.Command(tool, "tail", dir)
	cmd.Env = append(os.Environ(), "TZ=UTC", "PYTHONUNBUFFERED=1")
	tail := foolscaptest.Run(t, cmd)
	tail.Expect(t, `^Remote Versions:$`)
	testwait.Eventually(t, "the subscription", func() bool { return lp.Stats().Subscribers == 1 })
	// Its place in the stream begins with an event that it shows.
	next := func() (num event.Num, text string) {
		m := tail.Expect(t, eventLine.String())
		fmt.Sscan(m[3], &num)
		return num, m[4]
	}
	lp.Log(context.Background(), slog.LevelInfo, "begin")
	start, text := next()
	for text != "begin" {
		start, text = next()
	}
	_, until := flood(lp, 20_000)
	lp.Log(context.Background(), slog.LevelInfo, "end of the flood")
	got, last := 0, start
	for last < until { // up to the end, or the report of the loss behind it
		num, text := next()
		if num <= last {
			t.Fatalf("event %d was shown after %d", num, last)
		}
		last = num
		if num < until {
			got++
		} else if text == "end of the flood" {
			break
		}
	}
	testwait.Eventually(t, "the loss to be counted", func() bool {
		dropped := lp.Stats().SubscriberDropped
		return uint64(got)+dropped >= 20_000
	})
	// The event behind the flood may be among those dropped.
	if sum := uint64(got) + lp.Stats().SubscriberDropped; sum > 20_000+5 {
		t.Errorf("shown %d and dropped %d of 20,000", got, lp.Stats().SubscriberDropped)
	}
	if got < 2000 {
		t.Errorf("only %d events were shown, the queue alone holds 2,000", got)
	}
}

// TestOriginalGatherersUnderOverload: both original gatherers at once, under a
// flood with an incident in it.
func TestOriginalGatherersUnderOverload(t *testing.T) {
	logDir, logFURL := originalGatherer(t, "create-gatherer")
	incidentDir, incidentFURL := originalGatherer(t, "create-incident-gatherer")
	lp := open(t, logport.Config{Dir: t.TempDir(), Gatherers: []string{logFURL, incidentFURL}, TrailingDelay: time.Second})
	testwait.Eventually(t, "both gatherers", func() bool { return lp.Stats().Subscribers == 2 })
	lp.Log(context.Background(), slog.LevelInfo, "begin", logport.Facility("app"))
	stored := func() []*event.Event {
		_, events := readEvents(t, filepath.Join(logDir, "from-*.flog"))
		return events
	}
	testwait.Eventually(t, "the first event", func() bool { return len(messages(stored())) == 1 })
	flood(lp, 10_000)
	lp.Log(context.Background(), slog.LevelWarn, "trigger in the flood", logport.Facility("other"))
	flood(lp, 10_000)
	count := func() (n uint64) {
		last := event.Num(0)
		for i, e := range stored() {
			num, _ := e.Num()
			if i > 0 && num <= last {
				t.Fatalf("event %d stands after %d", num, last)
			}
			last = num
			n++
		}
		return n
	}
	begin := func() event.Num {
		for _, e := range stored() {
			if e.Text("message") == "begin" {
				n, _ := e.Num()
				return n
			}
		}
		return 0
	}()
	testwait.Eventually(t, "all to be stored or counted", func() bool {
		before := uint64(0)
		for _, e := range stored() {
			if n, _ := e.Num(); n < begin {
				before++
			}
		}
		return count()-before+lp.Stats().SubscriberDropped >= lp.Stats().Events-uint64(begin)
	})
	if n := count(); n < 2000 {
		t.Errorf("the log gatherer has %d events, its queue alone holds 2,000", n)
	}
	testwait.Eventually(t, "the incident", func() bool {
		_, events := readEvents(t, filepath.Join(incidentDir, "incidents", "*", "*.bz2"))
		for _, e := range events {
			if e.Text("message") == "trigger in the flood" {
				return true
			}
		}
		return false
	})
}
