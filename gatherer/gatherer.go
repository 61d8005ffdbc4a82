// Package gatherer is the daemon that collects what processes record: every event,
// or their incidents. It classifies, stores and publishes these.
//
//	publisher ── logport(…) ──► collect     one Session per publisher
//	  events    ──► eventlog    from-…---to-….flog ──► bus: NATS flog.event.…
//	  incidents ──► archive     incidents/TUBID/NAME.flog.zst
//	            ──► pipeline    classify: classified/CATEGORY
//	                            publish: bus, NATS flog.incident.…, noted in `published`
//
// This package has the directory's settings, and starts the parts in order; each of
// them is a package of its own, and none calls back into this one.
//
// The files are the truth. Each step is durable before the next one begins, and
// what is missing is found at the next start by comparing files: a gatherer that is
// killed at any point does the rest then. Nothing is lost and nothing is done twice.
//
// It does not read or show what it stores: see package tail.
//
// Spec: logging-semantics.md sections 10 and 11, flogfile.md sections 5 and 6.
package gatherer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/gatherer/bus"
	"github.com/flogtool/flogtool/gatherer/collect"
	"github.com/flogtool/flogtool/gatherer/eventlog"
	"github.com/flogtool/flogtool/gatherer/pipeline"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// Config says which directory a Gatherer serves.
type Config struct {
	Dir string // made by [Create], or by the original flogtool; required

	// Waiting, if not nil, is called once, with the gatherer's FURL, when processes
	// can connect.
	Waiting func(furl string)

	Log *slog.Logger // our own diagnostics; default discards
}

// Gatherer serves one directory.
type Gatherer struct {
	cfg      Config
	log      *slog.Logger
	dir      *durable.Dir
	lock     *durable.Lock // of the directory
	settings settings
	port     string
	location string

	// The parts, in start order. They are nil without their job.
	bus       *bus.Bus
	eventLog  *eventlog.Log
	archive   *archive.Archive
	pipeline  *pipeline.Pipeline
	collector *collect.Collector
	tub       *rpc.Tub

	unfinishedFor time.Duration // see collect.Config; 0 except in tests
	maxOffers     int

	reloads chan struct{} // holds a token when Reload was called
}

// New opens the directory cfg.Dir and locks it: another Gatherer cannot open it
// until Run has returned or, if that is not called, Close.
func New(cfg Config) (*Gatherer, error) {
	if cfg.Dir == "" {
		return nil, errors.New("gatherer: Config.Dir is empty")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Waiting == nil {
		cfg.Waiting = func(string) {}
	}
	cfg.Log = slog.New(textLimit{cfg.Log.Handler()})
	g := &Gatherer{cfg: cfg, log: cfg.Log, reloads: make(chan struct{}, 1)}
	if err := g.open(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// open locks the directory and reads its settings.
func (g *Gatherer) open() (err error) {
	if g.dir, err = durable.Open(g.cfg.Dir); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	if g.lock, err = g.dir.Lock(); errors.Is(err, durable.ErrInUse) {
		return fmt.Errorf("gatherer: another process gathers in %s", g.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	var original bool
	if g.settings, original, err = readSettings(g.dir); err != nil {
		return err
	}
	if original {
		g.log.Info("this directory was made by the original", "jobs", g.settings.Jobs,
			"rotate", g.settings.Logs.Rotate.String(), "compress", g.settings.Logs.Compress)
	}
	if g.port, err = oneLine(g.dir, portFile); err == nil {
		g.location, err = oneLine(g.dir, locationFile)
	}
	if err != nil {
		return fmt.Errorf("gatherer: %w: please create a new gatherer, with both --port and --location", err)
	}
	if isDigits(g.port) {
		g.port = "tcp:" + g.port // the form that deployment scripts give the original
	}
	return nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// Close unlocks and closes the directory, unless Run has done that.
func (g *Gatherer) Close() error {
	var errs []error
	if g.lock != nil {
		errs = append(errs, g.lock.Close())
		g.lock = nil
	}
	if g.dir != nil {
		errs = append(errs, g.dir.Close())
		g.dir = nil
	}
	return errors.Join(errs...)
}

// Run completes what an earlier run left, and gathers until ctx is done; then it
// returns nil. It may be called once. An error says what could not be started.
func (g *Gatherer) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.Close()) }()

	// The parts that run beside the connections end after them.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer func() {
		stop()
		parts.Wait()
		if g.bus != nil {
			g.bus.Close()
		}
	}()
	start := func(run func(context.Context)) { parts.Go(func() { run(background) }) }
	for _, open := range []func(starter) error{g.openBus, g.openEventLog, g.openArchive} {
		if err := open(start); err != nil {
			return err
		}
	}
	furl, err := g.listen()
	defer g.disconnect()
	if err != nil {
		return err
	}
	g.cfg.Waiting(furl)
	for {
		select {
		case <-g.reloads:
			g.reload()
		case <-ctx.Done():
			g.log.Info("stopping", "cause", context.Cause(ctx))
			return nil
		}
	}
}

// Reload makes Run begin a new log file and read the rules whose files have
// changed. It does not wait for that. Settings are not read again.
func (g *Gatherer) Reload() {
	select {
	case g.reloads <- struct{}{}:
	default: // Run will do it
	}
}

func (g *Gatherer) reload() {
	if g.eventLog != nil {
		if err := g.eventLog.Rotate(time.Now()); err != nil {
			g.log.Error("rotate log file", "err", err)
		}
	}
	if g.pipeline != nil {
		g.pipeline.ReloadRules()
	}
}

// starter runs a part in the background until Run ends.
type starter func(run func(context.Context))

func (g *Gatherer) openBus(start starter) (err error) {
	if !g.settings.NATS.Enabled {
		return nil
	}
	if g.bus, err = bus.Open(g.dir, g.settings.NATS.config(g.log)); err != nil {
		return err
	}
	if addr := g.bus.Addr(); addr != "" {
		g.log.Info("NATS server listens", "addr", addr)
	}
	start(g.bus.Run)
	return nil
}

func (g *Gatherer) openEventLog(start starter) (err error) {
	if !g.settings.does(jobLogs) {
		return nil
	}
	if g.eventLog, err = eventlog.Open(g.dir, g.settings.Logs.config(g.log), time.Now()); err != nil {
		return err
	}
	start(g.eventLog.Run)
	return nil
}

// openArchive opens the archive, and the pipeline, which begins with what an earlier
// run left.
func (g *Gatherer) openArchive(start starter) (err error) {
	if !g.settings.does(jobIncidents) {
		return nil
	}
	if g.archive, err = archive.Open(g.dir); err != nil {
		return err
	}
	rules, err := classify.Load(g.cfg.Dir)
	if err != nil {
		return fmt.Errorf("gatherer: rules: %w", err)
	}
	cfg := pipeline.Config{Archive: g.archive, Rules: rules, Log: g.log}
	if g.bus != nil {
		cfg.Target = g.bus
	}
	g.pipeline = pipeline.New(cfg)
	start(g.pipeline.Run)
	return nil
}

// listen starts the Tub and returns the gatherer's FURL.
func (g *Gatherer) listen() (furl string, err error) {
	// An incident comes as one answer; no other message is long.
	limit := max(2*int64(g.settings.Incidents.MaxSize), 1<<20)
	g.tub, err = rpc.NewTub(rpc.Config{
		KeyFile: filepath.Join(g.cfg.Dir, keyFile),
		Limits:  rpc.Limits{Token: limit, Message: limit},
		Log:     g.log,

		Features:    wire.Features,
		AnyCopyable: true, // an event may have values of its program's own classes
	})
	if err != nil {
		return "", err
	}
	if err := g.tub.SetLocation(g.location); err != nil {
		return "", fmt.Errorf("gatherer: %s: %w", locationFile, err)
	}
	g.collector = g.newCollector()
	f, err := g.tub.RegisterFile(g.collector.Object(), filepath.Join(g.cfg.Dir, furlFile))
	if err != nil {
		return "", err
	}
	if _, err := g.tub.Listen(g.port); err != nil {
		return "", err
	}
	return f.String(), nil
}

func (g *Gatherer) newCollector() *collect.Collector {
	cfg := collect.Config{
		MaxPublishers: g.settings.MaxPublishers,
		MaxEvent:      int(g.settings.Logs.MaxEvent),
		MaxIncident:   int64(g.settings.Incidents.MaxSize),
		MaxOffers:     g.maxOffers,
		UnfinishedFor: g.unfinishedFor,
		Log:           g.log,
	}
	if g.eventLog != nil {
		cfg.WriteEvent = g.eventLog.Write
		if g.bus != nil {
			cfg.PublishEvent = g.bus.PublishEvent
		}
	}
	if g.archive != nil {
		cfg.Archive, cfg.Sink = g.archive, g.pipeline
	}
	return collect.New(cfg)
}

// disconnect ends all connections and waits for their sessions.
func (g *Gatherer) disconnect() {
	if g.collector != nil {
		g.collector.Stop()
		defer g.collector.Wait()
	}
	if g.tub != nil {
		g.tub.Close()
	}
}

// Subscribe calls f with the subject and the payload of each message on NATS that
// matches subject, until ctx is done. It may be called after Config.Waiting was. The
// error says that NATS is off or that the server refused.
func (g *Gatherer) Subscribe(ctx context.Context, subject string, f func(subject string, payload []byte)) error {
	if g.bus == nil {
		return errors.New("gatherer: NATS is off")
	}
	return g.bus.Subscribe(ctx, subject, f)
}
