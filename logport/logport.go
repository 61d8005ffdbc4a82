// Package logport is the flight recorder that an application uses: it keeps
// everything logged in bounded rings, makes an incident of what led to a trigger,
// and offers both to those who hold its FURL.
//
//	lp, err := logport.Open(logport.Config{Name: "orders", Dir: "/var/lib/orders/flog"})
//	…
//	defer lp.Close()
//	slog.SetDefault(slog.New(lp.Handler()))
//
//	slog, Log ──► ring of (facility, level) ──► pump ──► subscriptions
//	                    │         └── trigger ──► incident.Recorder ──► Dir/0/incidents
//	                    └── catch-up
//
// Logging never blocks and never fails: see [Logport.Log].
//
// Spec: logging-semantics.md; design, decisions 1, 2, 4 and "Events".
package logport

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Config says what a Logport is. Its zero value is useful: it keeps events in
// memory and offers them on loopback.
type Config struct {
	Name      string   // shown as the source; default: the program's name
	Dir       string   // keys, furls, rings, incidents; "" keeps all in memory
	RingDir   string   // where the rings' file is instead, for example a tmpfs
	RingBytes int      // memory for events in all; default 16 MiB, or $FLOG_RING_BYTES
	Listen    string   // where to listen; default "tcp:127.0.0.1:0", the port kept in Dir; "off"
	Location  string   // hints for the FURL; default from Listen
	Gatherers []string // FURLs, or files of FURLs, one a line; re-read when they change

	AllowControl bool // offer gatherers of ours the control object too

	Trigger   string             // an expression over one event that says which are triggers; default "level >= WEIRD"
	Qualifier incident.Qualifier // says it instead

	IncidentEvery      time.Duration // between two incidents of one kind of trigger; default 1 minute, negative: no bound
	IncidentsPerMinute int           // in all; default 6, negative: no bound

	KeepIncidents int           // at most; default 1000
	KeepBytes     int64         // of them all at most; default 1 GiB
	KeepFor       time.Duration // default: for ever

	Attach []Attach // kept beside each incident

	TrailingDelay  time.Duration // recorded after a trigger; default 5s, negative for none
	TrailingEvents int           // recorded after a trigger at most; default 100, negative for none

	Next       slog.Handler                                 // fed as well, or nil
	NextFilter func(l slog.Level, facility string) bool     // what Next is fed; default: Info or above, not our own
	Redact     func(groups []string, a slog.Attr) slog.Attr // applied to every attribute, as slog.HandlerOptions.ReplaceAttr

	NoCrashOutput bool         // leave debug.SetCrashOutput to the application
	Log           *slog.Logger // our own diagnostics; default discards
}

// Attach names what is kept beside an incident, taken when its recording begins.
type Attach string

// What can be attached.
const (
	AttachGoroutines Attach = "goroutines" // the stacks of all goroutines
	AttachHeap       Attach = "heap"       // a heap profile
	AttachTrace      Attach = "trace"      // the last seconds of the execution trace; it records all the time
)

// traceAge is how much of the execution trace is kept at least.
const traceAge = 5 * time.Second

// openAttachments prepares what Config.Attach names.
func (lp *Logport) openAttachments() {
	for _, a := range lp.cfg.Attach {
		switch a {
		case AttachGoroutines:
			lp.attach = append(lp.attach, incident.Goroutines())
		case AttachHeap:
			lp.attach = append(lp.attach, incident.Heap())
		case AttachTrace:
			t, stop, err := incident.ExecutionTrace(traceAge)
			if err != nil {
				lp.report(unusual, "no execution trace will be attached", slog.String("err", err.Error()))
				continue
			}
			lp.attach, lp.stopTrace = append(lp.attach, t), stop
		default:
			lp.report(unusual, "nothing of that name can be attached", slog.String("name", string(a)))
		}
	}
}

// Defaults of Config.
const (
	DefaultRingBytes      = 16 << 20
	DefaultTrailingDelay  = 5 * time.Second
	DefaultTrailingEvents = 100
)

// Logport is one process's recorder. Its methods may be called from any
// goroutine, also after Close: events are then still kept in the rings, and
// nothing more is done with them.
type Logport struct {
	cfg         Config
	incarnation string
	started     time.Time
	rings       *rings
	clock       clock
	redact      redactor
	drafts      bool         // nothing of the application looks at each event
	next        slog.Handler // Config.Next, or nil
	sources     sources
	noFacility  *facility    // of events that name none
	least       atomic.Int32 // no facility has a lower threshold
	reports     reports

	attach    []incident.Attachment
	stopTrace func() // or nil

	earlyReports []func() // made before there are rings

	versions  versions
	incidents *incidents
	pump      *pump
	subs      subscriptions
	temporary temporary
	slot      *slot     // nil in memory
	box       *blackBox // nil in memory
	tub       *rpc.Tub
	doors     []*door // what the furl files lead to

	furl, controlFURL atomic.Pointer[rpc.FURL]

	offered        *publisher   // what gatherers are offered
	offeredControl *rpc.Methods // and, if Config says so, this

	ctx    context.Context // ends when Close begins
	stop   context.CancelCauseFunc
	late   context.Context // ends when Close waits no more
	giveUp context.CancelFunc
	wg     sync.WaitGroup

	copiers sync.WaitGroup // outlive wg: they take what the pump handed out last

	closed sync.Once
}

// ErrClosed is what waiting on a closed Logport ends with.
var ErrClosed = errors.New("logport: closed")

// ErrNoLocation is the error of FURL while there is nowhere to connect to.
var ErrNoLocation = rpc.ErrNoLocation

// Open begins recording. It fails only on a Config that can never work; what is
// wrong with directories, ports or other processes is told by the first events.
func Open(cfg Config) (*Logport, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	lp := &Logport{cfg: cfg, incarnation: newIncarnation(), started: time.Now().UTC()}
	lp.ctx, lp.stop = context.WithCancelCause(context.Background())
	lp.late, lp.giveUp = context.WithCancel(context.Background())
	lp.redact.custom = cfg.Redact
	lp.drafts = cfg.Redact == nil && cfg.Qualifier == nil
	if cfg.Next != nil {
		lp.next = withoutLoop(cfg.Next)
	}
	lp.clock.set()
	lp.versions.readBuild(cfg.Name)
	lp.openSlot()
	mem := lp.openBlackBox()
	lp.rings = newRings(mem, lp.box != nil, settings{})
	lp.noFacility = lp.rings.facility("")
	lp.updateLeast()
	for _, tell := range lp.earlyReports {
		tell()
	}
	lp.earlyReports = nil
	lp.catchCrash()

	lp.openAttachments()
	lp.incidents = newIncidents(lp, lp.openStore())
	lp.pump = newPump(lp.rings)
	lp.offered, lp.offeredControl = lp.newPublisher(lp.late), newControl(lp.late, lp)
	if err := lp.openTub(); err != nil {
		lp.report(unusual, "the logport is not offered", slog.String("err", err.Error()))
	}

	lp.wg.Go(func() {
		lp.recoverSlot()
		lp.incidents.run(lp.ctx)
	})
	lp.wg.Go(func() { lp.pump.run(lp.ctx) })
	lp.copies()
	if len(cfg.Gatherers) > 0 && lp.tub != nil {
		o := &offers{lp: lp, running: map[string]*rpc.Reconnector{}, told: map[string]string{}}
		lp.wg.Go(func() { o.run(lp.ctx) })
	}
	return lp, nil
}

// openSlot takes a slot of Config.Dir, or says why all stays in memory.
func (lp *Logport) openSlot() {
	if lp.cfg.Dir == "" {
		lp.early(event.Operational, "recording in memory: nothing survives the process")
		return
	}
	s, err := openSlot(lp.cfg.Dir, lp.cfg.RingDir)
	if err == nil {
		if err = s.writable(); err == nil {
			lp.slot = s
			return
		}
		s.close()
	}
	lp.early(unusual, "recording in memory: nothing survives the process",
		slog.String("dir", lp.cfg.Dir), slog.String("err", err.Error()))
}

// openStore opens the incidents of the slot, or a store in memory.
func (lp *Logport) openStore() *incident.Store {
	odd := func(file string, err error) {
		lp.report(unusual, "a file among the incidents is none", slog.String("file", file), slog.String("err", err.Error()))
	}
	if lp.slot != nil {
		s, err := incident.OpenStore(incident.StoreConfig{Dir: lp.slot.file("incidents"), Old: lp.cfg.Dir, Odd: odd, Log: lp.cfg.Log,
			MaxCount: lp.cfg.KeepIncidents, MaxBytes: lp.cfg.KeepBytes, MaxAge: lp.cfg.KeepFor})
		if err == nil {
			return s
		}
		lp.report(unusual, "incidents are kept in memory", slog.String("err", err.Error()))
	}
	s, err := incident.OpenStore(incident.StoreConfig{Odd: odd})
	if err != nil {
		panic(err) // a store in memory needs nothing
	}
	return s
}

// openTub makes the Tub, listens, and registers the publisher.
func (lp *Logport) openTub() error {
	if lp.cfg.Listen == "off" && lp.cfg.Location == "" && len(lp.cfg.Gatherers) == 0 {
		return nil // nobody will ever connect: not even a key is needed
	}
	cfg := rpc.Config{Log: lp.cfg.Log, Features: wire.Features}
	if lp.slot != nil {
		cfg.KeyFile = lp.slot.file("tub.pem")
	}
	tub, err := rpc.NewTub(cfg)
	if err != nil {
		return err
	}
	lp.tub = tub
	location, err := lp.listen()
	if err != nil {
		return err
	}
	if location == "" {
		return nil // gatherers are offered an object without a FURL
	}
	if err := tub.SetLocation(location); err != nil {
		return err
	}
	if err := lp.openDoors(); err != nil {
		return err
	}
	if lp.slot != nil {
		lp.wg.Go(func() { lp.watchDoors(lp.ctx) })
	}
	return nil
}

// listen listens as Config says and returns the location to give to others.
func (lp *Logport) listen() (location string, err error) {
	location = lp.cfg.Location
	if lp.cfg.Listen == "off" {
		return location, nil
	}
	endpoint := lp.cfg.Listen
	ownPort := endpoint == ""
	if ownPort {
		endpoint = "tcp:127.0.0.1:0"
		if lp.slot != nil {
			endpoint = "tcp:127.0.0.1:" + lp.slot.port()
		}
	}
	addr, err := lp.tub.Listen(endpoint)
	if err != nil && ownPort {
		// The port kept from the last run is taken: any other will do.
		addr, err = lp.tub.Listen("tcp:127.0.0.1:0")
	}
	if err != nil {
		return location, err
	}
	host, port, _ := net.SplitHostPort(addr.String())
	if ownPort && lp.slot != nil && lp.slot.port() != port {
		if err := durable.WriteFile(lp.slot.file("port"), []byte(port+"\n"), 0o600); err != nil {
			lp.report(unusual, "the port cannot be kept", slog.String("err", err.Error()))
		}
	}
	if location == "" {
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			host, _ = os.Hostname()
		}
		location = "tcp:" + net.JoinHostPort(host, port)
	}
	return location, nil
}

// FURL returns the address of the logport, which is also the permission to read
// all events. The error is ErrNoLocation while there is none.
func (lp *Logport) FURL() (string, error) {
	f := lp.furl.Load()
	if f == nil {
		return "", ErrNoLocation
	}
	return f.String(), nil
}

func (c *Config) fill() error {
	if c.Name == "" {
		c.Name = filepath.Base(os.Args[0])
	}
	if c.RingBytes == 0 {
		c.RingBytes = DefaultRingBytes
		if s := os.Getenv("FLOG_RING_BYTES"); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil {
				return fmt.Errorf("logport: FLOG_RING_BYTES is %q, want a number of bytes", s)
			}
			c.RingBytes = n
		}
	}
	if c.RingBytes < minRingBytes {
		return fmt.Errorf("logport: %d bytes are too few for rings, want at least %d", c.RingBytes, minRingBytes)
	}
	if c.TrailingDelay == 0 {
		c.TrailingDelay = DefaultTrailingDelay
	}
	if c.TrailingEvents == 0 {
		c.TrailingEvents = DefaultTrailingEvents
	}
	if c.IncidentEvery == 0 {
		c.IncidentEvery = time.Minute
	}
	if c.IncidentsPerMinute == 0 {
		c.IncidentsPerMinute = 6
	}
	if c.Qualifier == nil && c.Trigger != "" {
		q, err := incident.Expression(c.Trigger)
		if err != nil {
			return fmt.Errorf("logport: Config.Trigger: %w", err)
		}
		c.Qualifier = q
	}
	if c.NextFilter == nil {
		c.NextFilter = defaultNextFilter
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// newIncarnation returns the name of this run: 16 hex digits.
func newIncarnation() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// stackBuffer is the size of the buffer on the caller's stack in which an event
// is encoded; a longer event moves to the heap. A pool of buffers costs more
// than clearing this one (BenchmarkLog).
const stackBuffer = 512

// finish completes the event b and puts it into its ring. b does not escape:
// what keeps it, or might, gets a copy.
//
// Hot path: BenchmarkLog, TestLogDoesNotAllocate.
func (lp *Logport) finish(ctx context.Context, b []byte, level event.Level, p *placing) event.Num {
	if p.format != "" {
		b = event.AppendFormat(b, p.format)
	}
	if p.parent == event.NoNum {
		if n := contextParent(ctx); n != event.NoNum {
			b = event.AppendParent(b, n)
		}
	}
	f := lp.noFacility
	if p.facility != "" {
		f = lp.rings.facility(p.facility)
	}
	if int32(level) < f.threshold.Load() {
		return event.NoNum
	}
	if mayHoldFURL(b) {
		b = maskRecord(slices.Clone(b))
	}
	if len(b) > lp.rings.maxRecord {
		b = shrink(slices.Clone(b), lp.rings.maxRecord)
	}
	num := lp.rings.append(lp.rings.ring(f, level.Band()), b)
	if p.declared || lp.isTrigger(level, num, b, p) {
		lp.incidents.triggered(num, slices.Clone(b), p.declared)
	}
	return num
}

// isTrigger reports whether an event is one. Events about the recorder never
// are: an incident about incidents would go round for ever.
func (lp *Logport) isTrigger(level event.Level, num event.Num, rec event.Record, p *placing) bool {
	if lp.cfg.Qualifier == nil {
		return level >= event.Weird
	}
	return p.facility != ownFacility && lp.qualifies(num, slices.Clone(rec))
}

// qualifies asks Config's qualifier, whose panic must not reach the caller.
func (lp *Logport) qualifies(num event.Num, rec event.Record) (is bool) {
	defer func() {
		if v := recover(); v != nil {
			is = false
			lp.report(unusual, "the qualifier panicked", slog.String("panic", fmt.Sprint(v)))
		}
	}()
	e, err := rec.Event(num, lp.incarnation)
	return err == nil && lp.cfg.Qualifier.IsTrigger(e)
}

func (lp *Logport) minThreshold() event.Level { return event.Level(lp.least.Load()) }

// SetThreshold makes events of facility, and of its dotted children unless they
// have a setting of their own, only from level up; "" is the default for all.
// The default is NOISY.
func (lp *Logport) SetThreshold(facility string, level event.Level) {
	a := lp.rings
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t.settings.thresholds == nil {
		a.t.settings.thresholds = map[string]event.Level{}
	}
	a.t.settings.thresholds[facility] = level
	lp.applyThresholds()
}

// Threshold returns the level below which events of facility are not made.
func (lp *Logport) Threshold(facility string) event.Level {
	lp.rings.mu.Lock()
	defer lp.rings.mu.Unlock()
	return lp.rings.t.settings.threshold(facility)
}

// ownThreshold returns the setting that facility itself has, if any.
func (lp *Logport) ownThreshold(facility string) (l event.Level, ok bool) {
	lp.rings.mu.Lock()
	defer lp.rings.mu.Unlock()
	l, ok = lp.rings.t.settings.thresholds[facility]
	return l, ok
}

func (lp *Logport) ownThresholds() map[string]event.Level {
	lp.rings.mu.Lock()
	defer lp.rings.mu.Unlock()
	return maps.Clone(lp.rings.t.settings.thresholds)
}

func (lp *Logport) unsetThreshold(facility string) {
	a := lp.rings
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.t.settings.thresholds, facility)
	lp.applyThresholds()
}

// applyThresholds gives the facilities their thresholds. Its caller holds the
// rings' lock.
func (lp *Logport) applyThresholds() {
	a := lp.rings
	for name, f := range *a.facilities.Load() {
		f.threshold.Store(int32(a.t.settings.threshold(name)))
	}
	lp.least.Store(int32(a.t.settings.least()))
}

func (lp *Logport) updateLeast() {
	lp.rings.mu.Lock()
	defer lp.rings.mu.Unlock()
	lp.least.Store(int32(lp.rings.t.settings.least()))
}

// ExplainFacility says in a sentence what a facility's events are about, for
// whoever chooses among facilities later.
func (lp *Logport) ExplainFacility(name, sentence string) {
	a := lp.rings
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t.explained == nil {
		a.t.explained = map[string]string{}
	}
	a.t.explained[name] = sentence
}

// FacilityInfo is what is known of one facility.
type FacilityInfo struct {
	Name        string
	Explanation string // by ExplainFacility
	Threshold   event.Level
	Bytes       int // of the rings' memory
}

// Facilities returns the facilities that have logged or were explained, sorted
// by name.
func (lp *Logport) Facilities() []FacilityInfo {
	a := lp.rings
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]FacilityInfo{}
	for name, sentence := range a.t.explained {
		all[name] = FacilityInfo{Name: name, Explanation: sentence, Threshold: a.t.settings.threshold(name)}
	}
	for name, f := range *a.facilities.Load() {
		all[name] = FacilityInfo{Name: name, Explanation: a.t.explained[name],
			Threshold: event.Level(f.threshold.Load()), Bytes: f.blocks * blockSize}
	}
	return slices.SortedFunc(maps.Values(all), func(x, y FacilityInfo) int { return strings.Compare(x.Name, y.Name) })
}

// SetRing bounds the ring of facility, and of its dotted children unless they
// have a setting of their own, for the band of level, in bytes; "" is the
// default for all, 0 bytes lift the bound. A ring keeps at least one segment.
func (lp *Logport) SetRing(facility string, level event.Level, bytes int) {
	lp.setRing(facility, level, ringSize{bytes: bytes})
}

// SetRingEvents is SetRing with a bound in events, as the original has it.
func (lp *Logport) SetRingEvents(facility string, level event.Level, events int) {
	lp.setRing(facility, level, ringSize{events: events})
}

func (lp *Logport) setRing(facility string, level event.Level, size ringSize) {
	a := lp.rings
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t.settings.rings == nil {
		a.t.settings.rings = map[ringKey]ringSize{}
	}
	a.t.settings.rings[ringKey{facility, level.Band()}] = size
	for _, r := range *a.all.Load() {
		r.mu.Lock()
		r.t.maxBytes, r.t.limit = a.t.settings.ring(r.fac.name, event.Levels[r.band])
		r.mu.Unlock()
	}
}

// DeclareIncident makes an incident of what has been logged: the button for "that
// was weird". It logs an event at WEIRD with this message and returns its number.
// Whatever else is a trigger, it is one; of the limits only that of incidents a
// minute holds it back.
func (lp *Logport) DeclareIncident(ctx context.Context, reason string, attrs ...slog.Attr) event.Num {
	p := noPlacing
	p.declared = true
	b := event.AppendRecord(nil, lp.clock.now(), event.Weird, reason)
	for _, a := range attrs {
		b = lp.appendTop(b, &p, &a)
	}
	return lp.finish(ctx, b, event.Weird, &p)
}

// Flush returns when the incidents of all triggers logged so far are on disk. It
// ends the trailing window of the one being recorded: it is for a program that
// is about to exit.
func (lp *Logport) Flush(ctx context.Context) error { return lp.incidents.flush(ctx) }

// Stats are counts since Open.
type Stats struct {
	Events            uint64 // logged, at or above the thresholds
	Triggers          uint64
	Suppressed        uint64 // triggers that made no incident, by the limits
	Incidents         uint64 // recorded
	Subscribers       int    // now
	SubscriberDropped uint64 // events that subscribers were too slow for
	PinLost           uint64 // events lost to an incident because the reserve was used up
}

// Stats returns the counts so far.
func (lp *Logport) Stats() Stats {
	lp.rings.mu.Lock()
	pinLost := lp.rings.t.pinLost
	lp.rings.mu.Unlock()
	return Stats{
		Events:            lp.rings.next.Load(),
		Triggers:          lp.incidents.declared.Load(),
		Suppressed:        lp.incidents.suppressed.Load(),
		Incidents:         lp.incidents.recorded.Load(),
		Subscribers:       int(lp.subs.active.Load()),
		SubscriberDropped: lp.subs.dropped.Load(),
		PinLost:           pinLost,
	}
}

// closeWait is how long Close waits for subscribers to take what is queued.
const closeWait = time.Second

// Close ends recording: an incident being recorded is finished, and what is
// queued for subscribers is delivered if that takes no longer than a second. It
// may be repeated.
func (lp *Logport) Close() error {
	var errs []error
	lp.closed.Do(func() {
		lp.stop(ErrClosed)
		lp.temporary.endAll()
		lp.wg.Wait()
		timer := time.AfterFunc(closeWait, lp.giveUp)
		lp.subs.wg.Wait()
		lp.copiers.Wait()
		timer.Stop()
		lp.giveUp()
		if lp.tub != nil {
			errs = append(errs, lp.tub.Close())
		}
		lp.releaseCrash()
		if lp.stopTrace != nil {
			lp.stopTrace()
		}
		errs = append(errs, lp.incidents.store.Close(), lp.box.close(), lp.slot.close())
	})
	return errors.Join(errs...)
}

// Name returns Config.Name, or what stands for it.
func (lp *Logport) Name() string { return lp.cfg.Name }
