package gatherer

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/rpc"
)

// startNATS runs a NATS server with JetStream on that port until the test ends.
func startNATS(t *testing.T, port int, maxPayload int32) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, MaxPayload: maxPayload,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
}

// useNATS makes the gatherer of dir use a server on that port.
func useNATS(t *testing.T, dir string, port int) {
	t.Helper()
	set(t, dir, `listen = "127.0.0.1:0"`, `listen = ""`)
	set(t, dir, `url = ""`, `url = "nats://127.0.0.1:`+strconv.Itoa(port)+`"`)
}

// TestUnreadableIncident: an incident file that was damaged after its
// classification is set aside, and the others are published.
func TestUnreadableIncident(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	set(t, dir, "enabled = true", "enabled = false")
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	for i := range 3 {
		p.has(incidentName(i), 1)
	}
	p.connect(t, g.furl)
	p.observer(t)
	for i := range 3 {
		g.logged.Wait(t, "incident classified", incidentName(i))
	}
	g.stop()
	file := filepath.Join(dir, "incidents", string(p.tub.ID()), incidentName(0)+".flog.zst")
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}

	set(t, dir, "enabled = false", "enabled = true")
	g = start(t, dir)
	for i := 1; i < 3; i++ {
		g.logged.Wait(t, "incident published", incidentName(i))
	}
	g.logged.Wait(t, "incident set aside", "step=publish", incidentName(0), "not a flogfile")
	p.connect(t, g.furl)
	p.has(incidentName(3), 1)
	if err := p.observer(t).Call(t.Context(), "new_incident", rpc.Pos([]byte(incidentName(3)), trigger(0)), nil); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "incident published", incidentName(3))
	if n := g.logged.Count("incident set aside"); n != 1 {
		t.Errorf("it was reported %d times that an incident was set aside, want once", n)
	}
}

// TestSummaryTooLarge: an incident whose summary the NATS server refuses is set
// aside, and the others are published.
func TestSummaryTooLarge(t *testing.T) {
	port := testwait.FreePort(t)
	startNATS(t, port, 8<<10)
	dir := create(t, Options{Incidents: true})
	useNATS(t, dir, port)
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	p.answer(incidentName(0), func(int) (any, error) {
		long := answer(1, 0)
		header := long[0].(event.Dict)
		trigger, _ := header.Get("trigger")
		header[0].Value = append(trigger.(event.Dict), event.Item{Key: "detail", Value: strings.Repeat("x", 10<<10)})
		return long, nil
	})
	for i := 1; i < 3; i++ {
		p.has(incidentName(i), 1)
	}
	p.connect(t, g.furl)
	for i := 1; i < 3; i++ {
		g.logged.Wait(t, "incident published", incidentName(i))
	}
	g.logged.Wait(t, "incident set aside", "step=publish", incidentName(0), "maximum payload exceeded")
}

// TestNATSAway: while the NATS server cannot be reached, incidents are stored and
// classified. When it can, all are published, and none was set aside.
func TestNATSAway(t *testing.T) {
	port := testwait.FreePort(t)
	dir := create(t, Options{Incidents: true})
	useNATS(t, dir, port)
	g := start(t, dir)
	p := newPeer(t, g.furl)
	p.observer(t)
	for i := range 3 {
		p.has(incidentName(i), 1)
	}
	p.connect(t, g.furl)
	for i := range 3 {
		g.logged.Wait(t, "incident classified", incidentName(i))
	}
	startNATS(t, port, 1<<20)
	for i := range 3 {
		testwait.Eventually(t, "incident "+strconv.Itoa(i)+" published", func() bool {
			return g.logged.Count("incident published", incidentName(i)) == 1
		})
	}
	if n := g.logged.Count("set aside"); n != 0 {
		t.Errorf("%d incidents were set aside", n)
	}
}
