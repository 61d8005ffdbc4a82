package gatherer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// peer is a publisher that the test controls: it can send what an honest publisher
// would not.
type peer struct {
	tub      *rpc.Tub
	logport  *rpc.Methods
	gatherer *rpc.Remote

	mu       sync.Mutex
	answers  map[string]func(attempt int) (any, error) // of get_incident
	attempts map[string]int
	catchUp  []string

	observers chan *rpc.Remote // one for each subscription, of either kind
}

func newPeer(t *testing.T, furl string) *peer {
	t.Helper()
	p := &peer{
		answers: map[string]func(int) (any, error){}, attempts: map[string]int{},
		observers: make(chan *rpc.Remote, 100),
	}
	subscription := &rpc.Methods{Name: "RISubscription.foolscap.lothar.com", Map: map[string]func(*rpc.Call) (any, error){
		"unsubscribe": func(*rpc.Call) (any, error) { return nil, nil },
	}}
	p.logport = &rpc.Methods{Name: wire.RILogPublisher, Map: map[string]func(*rpc.Call) (any, error){
		"subscribe_to_all": func(c *rpc.Call) (any, error) {
			args, err := c.Bind("observer", "catch_up")
			if err != nil {
				return nil, err
			}
			p.observers <- args[0].(*rpc.Remote)
			return subscription, nil
		},
		"subscribe_to_incidents": func(c *rpc.Call) (any, error) {
			args, err := c.Bind("observer", "catch_up", "since")
			if err != nil {
				return nil, err
			}
			since, _ := banana.Text(args[2])
			p.offerAll(args[0].(*rpc.Remote), since)
			return subscription, nil
		},
		"get_incident": func(c *rpc.Call) (any, error) {
			name, _ := banana.Text(c.Args.Pos[0])
			p.mu.Lock()
			p.attempts[name]++
			attempt, answer := p.attempts[name], p.answers[name]
			p.mu.Unlock()
			if answer == nil {
				return nil, rpc.Errorf("builtins.KeyError", "'no incident named %s'", name)
			}
			return answer(attempt)
		},
	}}
	p.connect(t, furl)
	return p
}

// connect offers the logport, over a connection of a new Tub if there was none.
func (p *peer) connect(t *testing.T, furl string) {
	t.Helper()
	if p.tub == nil {
		tub, err := rpc.NewTub(rpc.Config{})
		if err != nil {
			t.Fatal(err)
		}
		p.tub = tub
		t.Cleanup(func() { tub.Close() })
	}
	f, err := rpc.ParseFURL(furl)
	if err != nil {
		t.Fatal(err)
	}
	if p.gatherer, err = p.tub.Connect(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := p.offer(t, p.logport); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) offer(t *testing.T, logport any) error {
	return p.gatherer.Call(t.Context(), "logport", rpc.Pos([]byte("a claim"), logport), nil)
}

// has gives the peer an incident with n events, which it offers in each catch-up.
func (p *peer) has(name string, n int64) {
	p.answer(name, func(int) (any, error) { return answer(n, 0), nil })
}

func (p *peer) answer(name string, f func(attempt int) (any, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[name] = f
	p.catchUp = append(p.catchUp, name)
}

// answer returns the answer of get_incident for n events; the first is the trigger.
func answer(n, first int64) event.Tuple {
	var events []any
	for i := range n {
		events = append(events, event.Dict{
			{Key: "incarnation", Value: []any{"02b4d3658aa9c406", nil}}, {Key: "level", Value: int64(30)},
			{Key: "message", Value: "broke"}, {Key: "num", Value: first + i}, {Key: "time", Value: 1700000000.5},
		})
	}
	header := event.Dict{{Key: "trigger", Value: events[0]}, {Key: "type", Value: "incident"}}
	return event.Tuple{header, events}
}

func trigger(num int64) event.Dict {
	return event.Dict{{Key: "incarnation", Value: []any{"02b4d3658aa9c406", nil}}, {Key: "num", Value: num}}
}

func (p *peer) offerAll(observer *rpc.Remote, since string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.catchUp {
		if name > since {
			observer.Send("new_incident", rpc.Pos([]byte(name), trigger(0)))
		}
	}
	observer.Send("done_with_incident_catchup", rpc.Args{})
	p.observers <- observer
}

// observer returns the observer of the next subscription.
func (p *peer) observer(t *testing.T) *rpc.Remote {
	t.Helper()
	select {
	case o := <-p.observers:
		return o
	case <-time.After(60 * time.Second):
		t.Fatal("the gatherer did not subscribe")
		return nil
	}
}

func (p *peer) tries(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts[name]
}

func incidentName(i int) string { return fmt.Sprintf("incident-2026-11-22--15-54-%02dZ-aaaaaaa", i) }

// stillWorks has an honest publisher deliver an incident.
func stillWorks(t *testing.T, g *running) {
	t.Helper()
	p := newPeer(t, g.furl)
	p.has("incident-honest", 2)
	tub := string(p.tub.ID())
	p.connect(t, g.furl) // and again, on the same connection, now that it has one
	g.logged.Wait(t, "incident classified", "incident-honest", tub)
}

func TestHostileNames(t *testing.T) {
	g := start(t, create(t, Options{Incidents: true}))
	p := newPeer(t, g.furl)
	o := p.observer(t)
	for _, name := range []any{
		"incident-../../../../tmp/x", "../incident", "incident/x", "", "latest", "incident-\x00", "incident-\n", "incident-x.flog.zst",
		"incident-" + strings.Repeat("x", 5000), int64(5), nil, []any{"incident"},
	} {
		if err := o.Call(t.Context(), "new_incident", rpc.Pos(name, trigger(0)), nil); err == nil {
			t.Errorf("the name %.50q was taken", name)
		}
	}
	for _, args := range []rpc.Args{{}, rpc.Pos("incident-1"), rpc.Pos("a", "b", "c"), rpc.Kw(map[string]any{"x": "y"})} {
		if err := o.Call(t.Context(), "new_incident", args, nil); err == nil {
			t.Errorf("new_incident took %v", args)
		}
	}
	stillWorks(t, g)
}

// TestFetchFails: an incident that cannot be fetched is retried and does not hold up
// others; `latest` stays below it.
func TestFetchFails(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	set(t, dir, `max_size = "64 MiB"`, `max_size = "64 KiB"`)
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)

	bad := map[string]any{
		"no pair":          int64(5),
		"three":            event.Tuple{event.Dict{}, []any{}, nil},
		"header a list":    event.Tuple{[]any{}, []any{}},
		"no trigger":       event.Tuple{event.Dict{}, []any{}},
		"trigger a number": event.Tuple{event.Dict{{Key: "trigger", Value: int64(1)}}, []any{}},
		"events a dict":    event.Tuple{answer(1, 0)[0], event.Dict{}},
		"event a number":   event.Tuple{answer(1, 0)[0], []any{int64(1)}},
		"nothing":          nil,
	}
	p.has(incidentName(0), 1)
	p.answer(incidentName(1), func(attempt int) (any, error) {
		if attempt < 3 {
			return nil, errors.New("disk on fire")
		}
		return answer(3, 0), nil
	})
	i := 2
	for what, v := range bad {
		_ = what
		p.answer(incidentName(i), func(attempt int) (any, error) { return v, nil })
		i++
	}
	p.answer(incidentName(i), func(int) (any, error) { return answer(2000, 0), nil }) // larger than 64 KiB
	p.answer(incidentName(i+1), nil)                                                  // gone before it is fetched
	p.has(incidentName(i+2), 1)
	last := incidentName(i + 3)
	p.has(last, 1)
	p.connect(t, g.furl)
	g.eventually(t, "incident classified", last)
	g.eventually(t, "incident classified", incidentName(1)) // on its third try
	g.eventually(t, "all incidents are here", incidentName(1))
	if g.logged.Count("fetch incident; it is tried again", "incidents.max_size") == 0 {
		t.Error("the incident that is too large was not reported")
	}
	if g.logged.Count("incident gone", incidentName(i+1)) == 0 {
		t.Error("the incident that is gone was not reported")
	}
	if n := p.tries(incidentName(1)); n != 3 {
		t.Errorf("it was fetched %d times, want 3", n)
	}
	mark, err := os.ReadFile(filepath.Join(dir, "incidents", string(p.tub.ID()), "latest"))
	if err != nil || string(mark) != incidentName(1)+"\n" {
		t.Errorf("latest is %q (%v), want the last one before those that are missing", mark, err)
	}
	want := []string{incidentName(0), incidentName(1), incidentName(i + 2), last}
	var got []string
	for _, s := range stored(g) {
		got = append(got, s.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}
	stillWorks(t, g)
}

// TestIncidentGrows: an incident that was fetched while it was being recorded is
// replaced by the complete one, and is in its category once.
func TestIncidentGrows(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	name := incidentName(0)
	p.answer(name, func(attempt int) (any, error) { return answer(int64(min(attempt, 3)), 0), nil })
	p.connect(t, g.furl)
	o := p.observer(t)
	g.eventually(t, "incident published", name)
	g.logged.Wait(t, "incident stored", name, "events=2") // by itself, for it was the newest
	if err := o.Call(t.Context(), "new_incident", rpc.Pos(name, trigger(0)), nil); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "incident stored", name, "events=3")
	// Another one of the same name does not take its place.
	p.answer(name, func(int) (any, error) { return answer(50, 7), nil })
	if err := o.Call(t.Context(), "new_incident", rpc.Pos(name, trigger(7)), nil); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "another incident of a name that is taken")
	_, events := readEvents(t, filepath.Join(dir, "incidents", string(p.tub.ID()), name+".flog.zst"))
	if len(events) != 3 {
		t.Errorf("it has %d events, want the 3 of the complete one", len(events))
	}
	if got := listAll(t, dir); len(got) != 1 {
		t.Errorf("classified/ has %q, want one line", got)
	}
}

// TestOfferedAgain: a publisher offers its logport again while a stored incident
// cannot be classified, because a directory is in the place of the file, and then
// many times more. Each of its incidents is stored and listed once.
func TestOfferedAgain(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	inTheWay := filepath.Join(dir, "classified", "unknown")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	p.has(incidentName(0), 1)
	if err := p.offer(t, p.logport); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "classify incident; it is tried again")
	if err := p.offer(t, p.logport); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "incident classified", incidentName(0))
	for i := 1; i < 20; i++ {
		p.has(incidentName(i), 1)
	}
	for range 50 {
		if err := p.offer(t, p.logport); err != nil {
			t.Fatal(err)
		}
	}
	g.logged.Wait(t, "all incidents are here", incidentName(19))
	g.eventually(t, "incident classified", incidentName(19))
	if got := listAll(t, dir); len(got) != 20 {
		t.Errorf("classified/ has %d lines, want 20:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// TestSameSecond: in the original, names of one second do not sort by time. A later
// incident may have a smaller name than the last one that is stored.
func TestSameSecond(t *testing.T) {
	g := start(t, create(t, Options{Incidents: true}))
	p := newPeer(t, g.furl)
	p.observer(t)
	const first, second = "incident-2026-11-22--15-54-53Z-zaaaaaa", "incident-2026-11-22--15-54-53Z-aaaaaaa"
	p.has(first, 1)
	p.connect(t, g.furl)
	g.logged.Wait(t, "all incidents are here", first)
	tries := p.tries(first)
	p.has(second, 1)
	p.connect(t, g.furl)
	g.logged.Wait(t, "incident classified", second)
	p.has("incident-2026-11-22--15-54-54Z-aaaaaaa", 1)
	p.connect(t, g.furl)
	g.logged.Wait(t, "incident classified", "15-54-54Z")
	if n := p.tries(first); n != tries {
		t.Errorf("the first was fetched %d times more", n-tries)
	}
}

// TestNewTubID: a process that comes back with another identity offers its old
// incidents again.
func TestNewTubID(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	g := start(t, dir)
	var first, second string
	for _, tub := range []*string{&first, &second} {
		p := newPeer(t, g.furl)
		p.observer(t)
		p.has(incidentName(0), 2)
		p.connect(t, g.furl)
		*tub = string(p.tub.ID())
		if *tub == first {
			g.logged.Wait(t, "incident classified")
			continue
		}
		g.logged.Wait(t, "incident is here from another Tub", *tub)
		if n := p.tries(incidentName(0)); n == 0 {
			t.Error("it was not fetched: its content was believed")
		}
	}
	also, err := os.ReadFile(filepath.Join(dir, "incidents", second, "also"))
	if want := "incidents/" + first + "/" + incidentName(0) + ".flog.zst\n"; string(also) != want {
		t.Errorf("also is %q (%v), want %q", also, err, want)
	}
	if got := listAll(t, dir); len(got) != 1 {
		t.Errorf("classified/ has %q, want one line", got)
	}
}

// incidentWith returns the answer of get_incident for an incident with the claims of
// answer(n, 0), and another text.
func incidentWith(n int64, message string) event.Tuple {
	a := answer(n, 0)
	for _, e := range a[1].([]any) {
		d := e.(event.Dict)
		for i := range d {
			if d[i].Key == "message" {
				d[i].Value = message
			}
		}
	}
	return a
}

// TestHostileTwin: a hostile publisher offers incidents with the name, the incarnation
// and the number of another publisher's: before that one, after it, with fewer events,
// with none, in another order. Each is stored, classified and published, and the
// honest one's files are the honest ones.
func TestHostileTwin(t *testing.T) {
	for _, tt := range []struct {
		name  string
		twin  func() event.Tuple
		first bool
	}{
		{"suppress", func() event.Tuple { return incidentWith(3, "all is well") }, true},
		{"replace", func() event.Tuple { return incidentWith(30, "all is well") }, false},
		{"blank", func() event.Tuple { a := answer(3, 0); a[1] = []any{}; return a }, true},
		{"reorder", func() event.Tuple {
			a := answer(3, 0)
			events := a[1].([]any)
			slices.Reverse(events)
			return a
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := create(t, Options{Incidents: true})
			writeFile(t, filepath.Join(dir, "classify_well.expr"), `message == "all is well" ? "well" : nil`)
			g := start(t, dir)
			name := incidentName(0)
			join := func(answer func() event.Tuple) *peer {
				p := newPeer(t, g.furl)
				p.observer(t)
				p.answer(name, func(int) (any, error) { return answer(), nil })
				p.connect(t, g.furl)
				g.logged.Wait(t, "incident published", name)
				return p
			}
			var twin, honest *peer
			if tt.first {
				twin = join(tt.twin)
			}
			honest = join(func() event.Tuple { return answer(3, 0) })
			if !tt.first {
				twin = join(tt.twin)
			}
			if honest.tries(name) == 0 || twin.tries(name) == 0 {
				t.Error("not both were fetched")
			}
			_, events := readEvents(t, filepath.Join(dir, "incidents", string(honest.tub.ID()), name+".flog.zst"))
			if len(events) != 3 {
				t.Fatalf("the honest incident has %d events, want 3", len(events))
			}
			for i, ev := range events {
				if n, _ := ev.Num(); n != event.Num(i) || pytext.Format(ev) != "broke" {
					t.Errorf("event %d of the honest incident is number %d, %q", i, n, pytext.Format(ev))
				}
			}
			if got := stored(g); len(got) != 2 {
				t.Errorf("stored are %v, want both", got)
			}
			tubs := map[string]bool{}
			js := jetStream(t, g.bus)
			store, err := js.ObjectStore(t.Context(), incident.ObjectStore)
			if err != nil {
				t.Fatal(err)
			}
			s, err := js.Stream(t.Context(), "FLOG_INCIDENTS")
			if err != nil {
				t.Fatal(err)
			}
			for seq := uint64(1); seq <= 2; seq++ {
				m, err := s.GetMsg(t.Context(), seq)
				if err != nil {
					t.Fatalf("message %d: %v; want one for each", seq, err)
				}
				var sum struct {
					Name, SHA256, Object string
					Tubs                 []string
				}
				if err := json.Unmarshal(m.Data, &sum); err != nil || sum.Name != name || len(sum.Tubs) != 1 {
					t.Fatalf("the summary is %s (%v)", m.Data, err)
				}
				tubs[sum.Tubs[0]] = true
				file, err := store.GetBytes(t.Context(), sum.Object)
				if err != nil || fmt.Sprintf("%x", sha256.Sum256(file)) != sum.SHA256 {
					t.Errorf("the object %q is another file than that of the summary (%v)", sum.Object, err)
				}
			}
			if !tubs[string(honest.tub.ID())] || !tubs[string(twin.tub.ID())] {
				t.Errorf("published are those of %v, want both", tubs)
			}
		})
	}
}

// TestFutureName: an incident with a name far in the future does not hide later ones.
func TestFutureName(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	for _, name := range []string{"incident-9999-12-31--23-59-59Z-aaaaaaa", "incident-zzzz"} {
		p.has(name, 1)
	}
	p.has(incidentName(0), 1)
	p.connect(t, g.furl)
	p.observer(t)
	g.logged.Wait(t, "incident classified", incidentName(0))
	g.stop()
	latest := filepath.Join(dir, "incidents", string(p.tub.ID()), "latest")
	if mark, err := os.ReadFile(latest); err == nil && string(mark) > incidentName(0)+"\n" {
		t.Errorf("latest is %q", mark)
	}
	// What an earlier version may have written.
	writeFile(t, latest, "incident-9999-12-31--23-59-59Z-aaaaaaa\n")
	g = start(t, dir)
	p.has(incidentName(1), 1)
	p.connect(t, g.furl)
	g.logged.Wait(t, "incident classified", incidentName(1))
}

// TestLongTexts: what a peer writes takes at most 1 KB of a text in a log line: the
// reason of a refusal, what a rule says of it, the subject of a NATS reader.
func TestLongTexts(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	writeFile(t, filepath.Join(dir, "classify_long.expr"), "attrs.kind\n")
	g := start(t, dir)
	nc := jetStream(t, g.bus).Conn()
	if err := nc.Publish("forged."+strings.Repeat("x", 3000), nil); err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, g.furl)
	p.observer(t)
	long := strings.Repeat("é\n", 100_000)
	p.answer(incidentName(0), func(int) (any, error) { return nil, rpc.Errorf(long, "%s", long) })
	p.answer(incidentName(1), func(int) (any, error) {
		a := incidentWith(1, "broke")
		header := a[0].(event.Dict)
		header[0].Value = append(header[0].Value.(event.Dict), event.Item{Key: "kind", Value: long})
		return a, nil
	})
	for _, words := range [][]string{
		{"NATS server", "Publish Violation", "forged."},
		{"fetch incident; it is tried again", incidentName(0)},
		{"rule failed on an incident", incidentName(1)},
	} {
		if said := g.logged.Wait(t, words...); len(said) > maxLogText+500 {
			t.Errorf("the log line with %q has %d bytes", words, len(said))
		}
		if words[0] == "NATS server" {
			p.connect(t, g.furl)
		}
	}
}

// TestFlood: a publisher that offers more than fits is asked again for the rest.
func TestFlood(t *testing.T) {
	g := start(t, create(t, Options{Incidents: true}), func(g *Gatherer) { g.maxOffers = 500 })
	p := newPeer(t, g.furl)
	o := p.observer(t)
	for i := range 700 {
		if err := o.Send("new_incident", rpc.Pos(fmt.Appendf(nil, "incident-%06d", i), trigger(0))); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // and one of them again and again
		o.Send("new_incident", rpc.Pos([]byte("incident-000000"), trigger(0)))
	}
	p.observer(t) // subscribed to again, when all were found to be gone
	stillWorks(t, g)
}

func TestHostileEvents(t *testing.T) {
	dir := create(t, Options{})
	g := start(t, dir)
	p := newPeer(t, g.furl)
	o := p.observer(t)
	for _, bad := range []any{nil, int64(1), "text", []any{}} {
		if err := o.Call(t.Context(), "msg", rpc.Pos(bad), nil); err == nil {
			t.Errorf("msg took %v", bad)
		}
	}
	if err := o.Call(t.Context(), "msg", rpc.Args{}, nil); err == nil {
		t.Error("msg took nothing")
	}
	if err := o.Call(t.Context(), "no_such_method", rpc.Args{}, nil); err == nil {
		t.Error("a method that does not exist was called")
	}
	deep := any("bottom")
	for range 400 {
		deep = []any{deep}
	}
	for i, d := range []event.Dict{
		{},
		{{Key: "num", Value: "five"}, {Key: "level", Value: []any{}}, {Key: "facility", Value: nil}},
		{{Key: "message", Value: strings.Repeat("x", 2<<20)}, {Key: "num", Value: int64(3)}, {Key: "facility", Value: strings.Repeat("f", 2<<20)}},
		{{Key: "message", Value: "line\nbreak\x1b[2J"}, {Key: "from", Value: "somebody else"}},
		{{Key: "deep", Value: deep}},
	} {
		if err := o.Call(t.Context(), "msg", rpc.Pos(d), nil); err != nil {
			t.Errorf("event %d was refused: %v", i, err)
		}
	}
	g.stop()
	files, _ := filepath.Glob(filepath.Join(dir, "from-*"))
	if len(files) != 1 {
		t.Fatalf("files are %q", files)
	}
	_, events := readEvents(t, files[0])
	if len(events) != 5 {
		t.Fatalf("%d events, want 5", len(events))
	}
	if m := pytext.Format(events[2]); !strings.Contains(m, "over the gatherer's limit") {
		t.Errorf("the event that is too long says %q", m)
	}
	if n, ok := events[2].Num(); !ok || n != 3 {
		t.Errorf("the event that is too long has lost its number")
	}
}

func TestHostileOffers(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	set(t, dir, "max_publishers = 10000", "max_publishers = 2")
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	for _, logport := range []any{nil, "x", &rpc.Methods{Name: "RISomethingElse"}, &rpc.Methods{}} {
		if err := p.offer(t, logport); err == nil {
			t.Errorf("a logport of type %T was taken", logport)
		}
	}
	// A publisher that cannot do what it claims.
	q := &peer{logport: &rpc.Methods{Name: wire.RILogPublisher, Map: nil}}
	q.connect(t, g.furl)
	g.logged.Wait(t, "subscribe to incidents", "AttributeError")
	// A third is one too many, until another goes.
	r := &peer{logport: p.logport, tub: nil}
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	f, err := rpc.ParseFURL(g.furl)
	if err != nil {
		t.Fatal(err)
	}
	if r.gatherer, err = tub.Connect(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := r.offer(t, p.logport); err == nil || !strings.Contains(err.Error(), "takes no more") {
		t.Errorf("the third publisher got %v", err)
	}
	q.tub.Close()
	g.logged.Wait(t, "publisher gone", string(q.tub.ID()))
	stillWorks(t, g)
}

// TestGarbage sends garbage before, during and after negotiation.
func TestGarbage(t *testing.T) {
	g := start(t, create(t, Options{Incidents: true}))
	f, err := rpc.ParseFURL(g.furl)
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(f.Hints[0], "tcp:")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
	get := "GET /id/" + string(f.Tub) + " HTTP/1.1\r\nHost: x\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n"
	for name, first := range map[string]string{
		"bytes":          "\x00\xff\x80\x81garbage",
		"no end":         "GET /id/" + strings.Repeat("x", 100_000),
		"web browser":    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"another Tub":    "GET /id/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n",
		"TLS at once":    "\x16\x03\x01\x02\x00\x01\x00",
		"garbage as TLS": get + "this is not a ClientHello",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial()
			io.WriteString(c, first)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c) // until the gatherer hangs up
			c.Close()
		})
	}
	cert := newCertificate(t)
	for name, hello := range map[string]string{
		"garbage for a hello":   "\x00\x01\x02\r\n\r\n",
		"a hello without end":   strings.Repeat("banana: 1\r\n", 10_000),
		"somebody else's hello": "banana-negotiation-range: 3 3\r\nmy-tub-id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
		"no version in common":  "banana-negotiation-range: 7 9\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial()
			defer c.Close()
			io.WriteString(c, get)
			answer := make([]byte, 1000)
			if n, err := c.Read(answer); err != nil || !strings.Contains(string(answer[:n]), "101") {
				t.Fatalf("answer is %q, %v", answer[:n], err)
			}
			s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
			io.WriteString(s, hello)
			io.Copy(io.Discard, s)
		})
	}
	stillWorks(t, g)
}

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	tub, err := rpc.NewTub(rpc.Config{KeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	tub.Close()
	cert, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dir := filepath.Join(t.TempDir(), "g")
	if err := Create(dir, Options{Port: "tcp:" + port + ":interface=127.0.0.1", Location: "tcp:127.0.0.1:" + port}); err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Run = %v, want one line that says the port is in use", err)
	}
}

func TestTwoGatherersInOneDirectory(t *testing.T) {
	g := start(t, create(t, Options{}))
	_, err := New(Config{Dir: g.dir})
	if err == nil || !strings.Contains(err.Error(), "another process gathers") {
		t.Errorf("New = %v, want that the directory is in use", err)
	}
}
