// Package logport is the flight recorder that an application uses: it keeps
// everything logged in bounded rings, makes an incident of what led to a trigger,
// and offers both to those who hold its FURL.
//
//	lp, err := logport.Open(logport.Config{Name: "orders", Dir: "/var/lib/orders/flog"})
//	…
//	defer lp.Close()
//	slog.SetDefault(slog.New(lp.Handler()))
//
//	slog, Log ──► ring of (facility, level) ──► pump ──► subscriptions on the network
//	                    │         │
//	                    │         └── catch-up, Buffered
//	                    └── trigger ──► incident.Store.Record ──► Dir/0/incidents
//
// Logging never blocks and never fails: see [Logport.Log]. The rings are in
// internal/ring, what is offered on the network in internal/publish, and what readers
// need in package wire.
//
// Spec: logging-semantics.md; design.md decisions 1, 2 and 4; design.md, "Events".
package logport

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/logport/internal/publish"
	"github.com/flogtool/flogtool/logport/internal/ring"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Config says what a Logport is. Its zero value is useful: it keeps events in
// memory and offers them on loopback.
type Config struct {
	Name      string   // the program's name; default: the executable's
	Dir       string   // keys, FURLs, rings, incidents; "" keeps all in memory
	RingDir   string   // the directory of the rings' file instead, for example a tmpfs
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

// traceAge is the least that is kept of the execution trace.
const traceAge = 5 * time.Second

// Defaults of Config.
const (
	DefaultRingBytes      = 16 << 20
	DefaultTrailingDelay  = 5 * time.Second
	DefaultTrailingEvents = 100
)

// Logport is one process's recorder. Its methods may be called from any goroutine, also
// after Close: events are then still kept in the rings, and nothing more is done with
// them.
type Logport struct {
	cfg       Config
	started   time.Time
	recorder  recorder
	reporter  reporter
	versions  versions
	temporary temporaryThresholds

	attach    []incident.Attachment
	stopTrace func() // or nil

	slot      *slot      // nil in memory
	ringsFile *ring.File // nil in memory
	crash     *crashOutput
	incidents *incidents
	pump      *ring.Pump
	copies    copies
	publisher *publish.Publisher
	tub       *rpc.Tub

	furl, controlFURL atomic.Pointer[rpc.FURL]

	ctx    context.Context // ends when Close begins
	stop   context.CancelCauseFunc
	late   context.Context // ends when Close stops waiting
	cancel context.CancelFunc
	wg     sync.WaitGroup

	closed sync.Once
}

// ErrClosed is the error of waiting on a closed Logport.
var ErrClosed = errors.New("logport: closed")

// ErrNoLocation is the error of FURL while there is nowhere to connect to.
var ErrNoLocation = rpc.ErrNoLocation

// Open begins recording. It fails only on a Config that can never work; what is
// wrong with directories, ports or other processes is reported by the first events.
func Open(cfg Config) (*Logport, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	lp := &Logport{cfg: cfg, started: time.Now().UTC()}
	lp.ctx, lp.stop = context.WithCancelCause(context.Background())
	lp.late, lp.cancel = context.WithCancel(context.Background())
	lp.versions.readBuild(cfg.Name)

	lp.openRecorder()
	lp.reporter.begin()
	lp.openAttachments()
	lp.incidents = lp.newIncidents(lp.openStore())
	lp.pump = ring.NewPump(lp.recorder.rings)
	lp.publisher = publish.New(publish.Config{
		Incarnation: lp.Incarnation(), Origin: lp.origin, Versions: lp.versions.all, Rings: lp.recorder.rings, Pump: lp.pump,
		Incidents: lp.incidents, Control: control{lp}, Report: lp.reporter.reportNow,
	})
	if err := lp.openTub(); err != nil {
		lp.reporter.problem("the logport is not offered", err)
	}

	lp.wg.Go(func() {
		lp.recoverSlot()
		lp.incidents.run(lp.ctx)
	})
	lp.wg.Go(func() { lp.pump.Run(lp.ctx) })
	lp.copies.pump, lp.copies.incarnation, lp.copies.versions, lp.copies.reporter = lp.pump, lp.Incarnation(), &lp.versions, &lp.reporter
	lp.copies.start(lp.late)
	if len(cfg.Gatherers) > 0 && lp.tub != nil {
		offers := publish.Offers{Gatherers: cfg.Gatherers, Logport: lp.publisher.Logport(lp.late), Tub: lp.tub, Log: cfg.Log}
		if cfg.AllowControl {
			offers.Control = lp.publisher.ControlObject(lp.late)
		}
		lp.wg.Go(func() { lp.publisher.Offer(lp.ctx, offers) })
	}
	return lp, nil
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
	if c.RingBytes < ring.MinBytes {
		return fmt.Errorf("logport: %d bytes are too few for rings, want at least %d", c.RingBytes, ring.MinBytes)
	}
	c.TrailingDelay = cmp.Or(c.TrailingDelay, DefaultTrailingDelay)
	c.TrailingEvents = cmp.Or(c.TrailingEvents, DefaultTrailingEvents)
	c.IncidentEvery = cmp.Or(c.IncidentEvery, time.Minute)
	c.IncidentsPerMinute = cmp.Or(c.IncidentsPerMinute, 6)
	if c.Qualifier == nil && c.Trigger != "" {
		q, err := incident.Expression(c.Trigger)
		if err != nil {
			return fmt.Errorf("logport: Config.Trigger: %w", err)
		}
		c.Qualifier = q
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// openRecorder takes a slot, makes the rings, and begins to record.
func (lp *Logport) openRecorder() {
	r := &lp.recorder
	lp.reporter.r = r
	r.incarnation = newIncarnation()
	r.encoder.redact = lp.cfg.Redact
	r.qualifier = lp.cfg.Qualifier
	r.drafts = lp.cfg.Redact == nil && lp.cfg.Qualifier == nil
	r.next = newNextFeed(lp.cfg.Next, lp.cfg.NextFilter)
	r.clock.set()
	r.triggered = func(num event.Num, rec event.Record, declared bool) { lp.incidents.triggered(num, rec, declared) }
	r.qualifierPanicked = func(v any) {
		lp.reporter.report(event.Unusual, "the qualifier panicked", slog.String("panic", fmt.Sprint(v)))
	}

	lp.openSlot()
	mem := lp.openRings()
	r.rings = ring.New(mem, lp.ringsFile != nil)
	r.noFacility = r.rings.Facility("")
	lp.temporary.rings, lp.temporary.r = r.rings, &lp.reporter

	if lp.ringsFile != nil && !lp.cfg.NoCrashOutput {
		var err error
		if lp.crash, err = catchCrash(crashFile(lp.slot, lp.ringsFile.Path())); err != nil {
			lp.reporter.problem("a fatal error's trace will not be kept", err)
		}
	}
}

// newIncarnation returns the name of this run: 16 hex digits.
func newIncarnation() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// openSlot takes a slot of Config.Dir, or says why everything stays in memory.
func (lp *Logport) openSlot() {
	const inMemory = "recording in memory: nothing survives the process"
	if lp.cfg.Dir == "" {
		lp.reporter.reportEarly(event.Operational, inMemory)
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
	lp.reporter.reportEarly(event.Unusual, inMemory, slog.String("dir", lp.cfg.Dir), slog.String("err", err.Error()))
}

// openRings makes the rings' memory: a mapped file in the slot, or plain memory.
func (lp *Logport) openRings() []byte {
	size := lp.cfg.RingBytes / ring.BlockSize * ring.BlockSize
	if lp.slot == nil {
		return make([]byte, size)
	}
	file, err := ring.CreateFile(lp.slot.rings, lp.ringsMeta())
	if err != nil {
		lp.reporter.reportEarly(event.Unusual, "the rings are kept in memory: they do not survive the process",
			slog.String("dir", lp.slot.rings), slog.String("err", err.Error()))
		return make([]byte, size)
	}
	lp.ringsFile = file
	return file.Memory()
}

// ringsMeta returns what the next process must know of this one.
func (lp *Logport) ringsMeta() ring.Meta {
	m := ring.Meta{
		Name: lp.cfg.Name, Incarnation: lp.Incarnation(), PID: os.Getpid(), Started: lp.started,
		Blocks: lp.cfg.RingBytes / ring.BlockSize, Versions: map[string]string{},
	}
	for _, item := range lp.versions.all() {
		m.Versions[item.Key.(string)], _ = item.Value.(string)
	}
	return m
}

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
				lp.reporter.problem("no execution trace will be attached", err)
				continue
			}
			lp.attach, lp.stopTrace = append(lp.attach, t), stop
		default:
			lp.reporter.report(event.Unusual, "unknown attachment in Config.Attach", slog.String("name", string(a)))
		}
	}
}

// openStore opens the incidents of the slot, or a store in memory.
func (lp *Logport) openStore() *incident.Store {
	odd := func(file string, err error) {
		lp.reporter.problem("unrecognized file in the incident directory", err, slog.String("file", file))
	}
	if lp.slot != nil {
		s, err := incident.OpenStore(incident.StoreConfig{Dir: lp.slot.file("incidents"), Old: lp.cfg.Dir, Odd: odd, Log: lp.cfg.Log,
			MaxCount: lp.cfg.KeepIncidents, MaxBytes: lp.cfg.KeepBytes, MaxAge: lp.cfg.KeepFor})
		if err == nil {
			return s
		}
		lp.reporter.problem("incidents are kept in memory", err)
	}
	s, err := incident.OpenStore(incident.StoreConfig{Odd: odd})
	if err != nil {
		panic(err) // a store in memory needs nothing
	}
	return s
}

func (lp *Logport) newIncidents(store *incident.Store) *incidents {
	limiter := incident.Limiter{PerKind: max(0, lp.cfg.IncidentEvery), PerMinute: max(0, lp.cfg.IncidentsPerMinute)}
	return newIncidents(lp.recorder.rings, store, &lp.reporter, limiter, func(c *incident.Config) {
		c.Program = lp.cfg.Name
		c.Incarnation = lp.Incarnation()
		c.PID = os.Getpid()
		c.Versions = lp.versions.all()
		c.TrailingDelay = lp.cfg.TrailingDelay
		c.TrailingEvents = lp.cfg.TrailingEvents
		c.Attach = lp.attach
	})
}

// recoverSlot makes incidents of what dead processes left in this one's slot. It
// runs before the first recording, since incidents are published in the order of
// their names.
func (lp *Logport) recoverSlot() {
	if lp.slot == nil {
		return
	}
	for _, r := range (recovery{lp.slot, lp.incidents.store}).run() {
		if r.Err != nil {
			lp.reporter.problem("a dead process's rings could not be recovered", r.Err, slog.String("file", r.File))
			continue
		}
		lp.incidents.recorded.Add(1)
		lp.reporter.report(event.Operational, "a dead process's rings were recovered", slog.Int("pid", r.PID),
			slog.String("incident", r.Incident), slog.Int("events", r.Events), slog.Int("torn", r.Torn))
	}
}

// maxMemory bounds what readers and gatherers together can make the process hold, in
// bytes.
const maxMemory = 64 << 20

// openTub makes the Tub, listens, and registers the logport and the control object.
func (lp *Logport) openTub() error {
	if lp.cfg.Listen == "off" && lp.cfg.Location == "" && len(lp.cfg.Gatherers) == 0 {
		return nil // nobody will ever connect: not even a key is needed
	}
	tub, err := rpc.NewTub(rpc.Config{
		Log: lp.cfg.Log, Features: wire.Features, KeyFile: lp.slot.file("tub.pem"), Limits: rpc.Limits{Memory: maxMemory},
	})
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
	objects := lp.publisher.NewObjects(lp.late, tub)
	err = objects.Add(lp.slot.file(furlFile), lp.publisher.Logport, func(f rpc.FURL) { lp.furl.Store(&f) })
	if err == nil {
		err = objects.Add(lp.slot.file(controlFile), lp.publisher.ControlObject, func(f rpc.FURL) { lp.controlFURL.Store(&f) })
	}
	if err != nil || lp.slot == nil {
		return err
	}
	lp.slot.linkFURL()
	lp.wg.Go(func() { objects.Watch(lp.ctx) })
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
		endpoint = "tcp:127.0.0.1:" + lp.slot.port()
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
			lp.reporter.problem("the port cannot be kept", err)
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

// origin returns where the process's own events come from.
func (lp *Logport) origin() filter.Origin {
	return filter.Origin{From: lp.TubID(), Program: lp.cfg.Name}
}

// Name returns Config.Name or its default.
func (lp *Logport) Name() string { return lp.cfg.Name }

// Incarnation returns the name of this run of the process.
func (lp *Logport) Incarnation() string { return lp.recorder.incarnation }

// TubID returns the identity under which others know the process, "" if it has
// none because nobody can connect.
func (lp *Logport) TubID() string {
	if lp.tub == nil {
		return ""
	}
	return string(lp.tub.ID())
}

// FURL returns the address of the logport, which is also the permission to read
// all events. The error is ErrNoLocation while there is none.
func (lp *Logport) FURL() (string, error) { return furlOf(&lp.furl) }

// ControlFURL returns the address of the control object, which is the permission
// to change thresholds and to declare incidents. The error is ErrNoLocation
// while there is none.
func (lp *Logport) ControlFURL() (string, error) { return furlOf(&lp.controlFURL) }

func furlOf(p *atomic.Pointer[rpc.FURL]) (string, error) {
	f := p.Load()
	if f == nil {
		return "", ErrNoLocation
	}
	return f.String(), nil
}

// Handler returns the slog.Handler that records into lp. It never blocks and
// never fails; what cannot be encoded becomes a readable stand-in.
func (lp *Logport) Handler() slog.Handler {
	h := &handler{r: &lp.recorder, meta: noMeta}
	if next := lp.recorder.next; next != nil {
		h.next = next.handler
	}
	return h
}

// Log records one event and returns its number, or [event.NoNum] if its level is
// below the facility's threshold. It never blocks and never fails.
func (lp *Logport) Log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) event.Num {
	return lp.recorder.log(ctx, level, msg, attrs)
}

// DeclareIncident makes an incident of what has been logged: the button for "that
// was weird". It logs an event at WEIRD with this message, which is a trigger whatever
// else is one, and returns its number. Of the limits only that of incidents a minute
// applies to it.
func (lp *Logport) DeclareIncident(ctx context.Context, reason string, attrs ...slog.Attr) event.Num {
	m := noMeta
	m.declared = true
	return lp.recorder.logBuffered(ctx, lp.recorder.clock.now(), event.Weird, reason, attrs, m)
}

// Recover records a panic as an incident, with its stack, and panics again with
// the same value. It does nothing if there is no panic. It must be deferred
// itself:
//
//	defer lp.Recover()
func (lp *Logport) Recover() {
	if v := recover(); v != nil {
		lp.RecordPanic(context.Background(), v)
		panic(v)
	}
}

// RecordPanic records the value of a panic that the caller has recovered, with the
// stack of the caller, waits up to 2 s for the incident to be on disk, and returns the
// event's number.
func (lp *Logport) RecordPanic(ctx context.Context, v any, attrs ...slog.Attr) event.Num {
	message, failure := panicMessage(v)
	b := event.AppendRecord(nil, lp.recorder.clock.now(), event.Bad, message)
	b = event.AppendValue(event.AppendKey(b, "failure"), maskAll(failure))
	b = event.AppendInt(event.AppendKey(b, "isError"), 1)
	m := noMeta
	for _, a := range attrs {
		b = lp.recorder.encoder.appendTop(b, &m, &a)
	}
	num := lp.recorder.record(ctx, b, event.Bad, &m)
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), panicWait)
	defer cancel()
	lp.Flush(wait)
	return num
}

// Flush returns when the incidents of all triggers logged so far are on disk, or with
// ctx's cause. It ends the trailing window of the one being recorded: it is for a
// program that is about to exit.
func (lp *Logport) Flush(ctx context.Context) error { return lp.incidents.flush(ctx) }

// SetThreshold makes events of facility, and of its dotted children unless they
// have a setting of their own, only from level up; "" is the default for all.
// The default is NOISY.
func (lp *Logport) SetThreshold(facility string, level event.Level) {
	lp.recorder.rings.SetThreshold(facility, level)
}

// SetThresholdFor is SetThreshold for a while: then the facility's setting from before
// comes back. Both are reported by events. A further change in that time only moves
// its end.
func (lp *Logport) SetThresholdFor(facility string, level event.Level, d time.Duration) {
	lp.temporary.set(facility, level, d)
}

// Threshold returns the level below which events of facility are not made.
func (lp *Logport) Threshold(facility string) event.Level {
	return lp.recorder.rings.Threshold(facility)
}

// SetRing bounds the ring of facility, and of its dotted children unless they
// have a setting of their own, for the band of level, in bytes; "" is the
// default for all, 0 bytes lift the bound. A ring keeps at least one segment of 16 KiB.
func (lp *Logport) SetRing(facility string, level event.Level, bytes int) {
	lp.recorder.rings.SetRing(facility, level, bytes, 0)
}

// SetRingEvents is SetRing with a bound in events, as the original has it.
func (lp *Logport) SetRingEvents(facility string, level event.Level, events int) {
	lp.recorder.rings.SetRing(facility, level, 0, events)
}

// DescribeFacility says in a sentence what a facility's events are about, for those
// who choose among facilities later.
func (lp *Logport) DescribeFacility(name, sentence string) {
	lp.recorder.rings.Describe(name, sentence)
}

// FacilityInfo is what is known of one facility.
type FacilityInfo struct {
	Name        string
	Description string // by DescribeFacility
	Threshold   event.Level
	Bytes       int // of the rings' memory
}

// Facilities returns the facilities that have logged or are described, sorted by
// name.
func (lp *Logport) Facilities() []FacilityInfo {
	var all []FacilityInfo
	for _, f := range lp.recorder.rings.Facilities() {
		all = append(all, FacilityInfo(f))
	}
	return all
}

// AddVersion notes the version of a part of the program; it is kept with every
// incident and sent to those who tail.
func (lp *Logport) AddVersion(name, version string) {
	lp.versions.set(name, version)
	if lp.ringsFile != nil {
		lp.ringsFile.SetMeta(lp.ringsMeta())
	}
}

// Buffered yields what the rings hold now, in the order of numbers. Logging goes
// on meanwhile; what a ring overwrites before it is read is left out.
func (lp *Logport) Buffered() iter.Seq[*event.Event] { return lp.BufferedFrom(0) }

// BufferedFrom is Buffered from the event numbered from on.
func (lp *Logport) BufferedFrom(from event.Num) iter.Seq[*event.Event] {
	return func(yield func(*event.Event) bool) {
		c := ring.NewCursor(lp.recorder.rings, from)
		c.Cut()
		for {
			num, rec, ok := c.Read()
			if !ok {
				return
			}
			e, err := rec.Event(num, lp.Incarnation())
			if err == nil && !yield(e) {
				return
			}
		}
	}
}

// WatchEvents returns a subscription within the process: every event from now on, and
// what o asks for of those before, is given to the watch's Run or counted. A watch that
// is not run costs its queue. The error is that of a bad filter.
func (lp *Logport) WatchEvents(o wire.SubscribeOptions) (*EventWatch, error) {
	s, err := lp.publisher.Subscribe(o)
	if err != nil {
		return nil, fmt.Errorf("logport: watch: %w", err)
	}
	return &EventWatch{lp, s}, nil
}

// Watch gives handle the process's own events, as [wire.Subscribe] does on the network:
// it is [Logport.WatchEvents] and [EventWatch.Run].
func (lp *Logport) Watch(ctx context.Context, o wire.SubscribeOptions, handle func(*wire.Batch) error) error {
	w, err := lp.WatchEvents(o)
	if err != nil {
		return err
	}
	return w.Run(ctx, handle)
}

// WatchIncidents returns a watch of the incidents whose recording is under way or
// begins after the call.
func (lp *Logport) WatchIncidents() *IncidentWatch {
	return &IncidentWatch{lp.publisher.WatchIncidents()}
}

// ReadIncident returns the header and the events of an incident. An error wraps
// [incident.ErrNoIncident] if there is none of that name.
func (lp *Logport) ReadIncident(name string) (header event.Dict, events []any, err error) {
	return lp.incidents.store.Read(name)
}

// OpenIncident opens an incident's flog file, compressed as it is on disk. An error
// wraps [incident.ErrNoIncident] if there is none of that name.
func (lp *Logport) OpenIncident(name string) (io.ReadCloser, error) {
	r, err := lp.incidents.store.OpenPart(name, incident.FlogPart)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, 1<<62), r}, nil
}

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
	return Stats{
		Events:            uint64(lp.recorder.rings.Next()),
		Triggers:          lp.incidents.triggers.Load(),
		Suppressed:        lp.incidents.suppressed.Load(),
		Incidents:         lp.incidents.recorded.Load(),
		Subscribers:       lp.publisher.Subscriptions(),
		SubscriberDropped: lp.publisher.Dropped(),
		PinLost:           lp.recorder.rings.PinLost(),
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
		lp.temporary.stop()
		lp.wg.Wait()
		timer := time.AfterFunc(closeWait, lp.cancel)
		lp.publisher.Wait()
		lp.copies.wg.Wait()
		timer.Stop()
		lp.cancel()
		if lp.tub != nil {
			errs = append(errs, lp.tub.Close())
		}
		lp.crash.release()
		if lp.stopTrace != nil {
			lp.stopTrace()
		}
		errs = append(errs, lp.incidents.store.Close(), lp.ringsFile.Close(), lp.slot.close())
	})
	return errors.Join(errs...)
}
