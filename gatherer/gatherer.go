// Package gatherer is the daemon that collects what processes recorded: every
// event, or their incidents, which it classifies, keeps and publishes.
//
//	process ── logport(…) ──► Gatherer
//	  events   ──► logs       from-…---to-present.flog, rotated, compressed ──► NATS flog.event.…
//	  incident ──► archive    incidents/TUBID/NAME.flog.zst
//	           ──► listing    classified/CATEGORY, by the rules
//	           ──► announcer  NATS flog.incident.…, noted in `published`
//
// The files are the truth, each step is durable before the next one begins, and
// each is found undone at the next start by comparing files: killed at any point,
// the gatherer finishes the rest, with nothing lost and nothing doubled.
//
// A publisher is served by the goroutine of its connection, which delivers its
// calls, and by one of ours that fetches its incidents, one after the other.
// What they share (logs, archive, listing, announcer) is locked each for itself,
// and no lock is held while a peer is waited for.
//
// It does not read or show what it keeps: see package tail.
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

	// Waiting is told the gatherer's FURL when processes can connect.
	Waiting func(furl string)

	Log *slog.Logger // our own diagnostics; default discards
}

// A Gatherer serves one directory.
type Gatherer struct {
	cfg      Config
	log      *slog.Logger
	dir      *durable.Dir
	lock     *durable.Lock // of the directory
	settings settings
	port     string
	location string

	tub       *rpc.Tub
	logs      *eventlog.Log    // nil without the job
	bus       *bus.Bus         // nil if NATS is off
	archive   *archive.Archive // this and the next nil without the job
	pipeline  *pipeline.Pipeline
	collector *collect.Collector

	unfinishedFor time.Duration // see package collect; shorter and fewer in tests
	maxOffers     int

	reloads chan struct{} // holds a token when Reload was asked for
}

// New opens the directory cfg.Dir, of which the Gatherer has the use alone until
// its Run has returned or, if it is not run, its Close.
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
		g.port = "tcp:" + g.port // as deployment scripts give it to the original
	}
	return nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// Close gives the directory back. Run does it, too.
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

// Run completes what an earlier run left, then gathers until ctx is done, which
// is no error. It may be called once.
func (g *Gatherer) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.Close()) }()

	// What runs beside the connections ends after them: it takes what they
	// brought last.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	defer func() {
		stop()
		loops.Wait()
		if g.bus != nil {
			g.bus.Close()
		}
	}()
	if err := g.prepare(background, &loops); err != nil {
		return err
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

// Reload makes Run rotate the log and read the rules anew, as SIGHUP asks.
func (g *Gatherer) Reload() {
	select {
	case g.reloads <- struct{}{}:
	default: // one is asked for already
	}
}

func (g *Gatherer) reload() {
	if g.logs != nil {
		if err := g.logs.Rotate(time.Now()); err != nil {
			g.log.Error("rotate log file", "err", err)
		}
	}
	if g.pipeline != nil {
		g.pipeline.ReloadRules()
	}
}

// prepare opens what the directory's jobs need, starts their loops, which end
// with background, and classifies and publishes what an earlier run did not.
func (g *Gatherer) prepare(background context.Context, loops *sync.WaitGroup) (err error) {
	if g.settings.NATS.Enabled {
		if g.bus, err = bus.Open(g.dir, g.settings.NATS.config(g.log)); err != nil {
			return err
		}
		loops.Go(func() { g.bus.Run(background) })
		if addr := g.bus.Addr(); addr != "" {
			g.log.Info("NATS server listens", "addr", addr)
		}
	}
	if g.settings.does(jobLogs) {
		if g.logs, err = eventlog.Open(g.dir, g.settings.Logs.config(g.log), time.Now()); err != nil {
			return err
		}
		loops.Go(func() { g.logs.Run(background) })
	}
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
	loops.Go(func() { g.pipeline.Run(background) })
	return nil
}

// listen starts the Tub and returns the gatherer's FURL.
func (g *Gatherer) listen() (furl string, err error) {
	// An incident comes as one answer; nothing else that is sent here is long.
	limit := max(2*int64(g.settings.Incidents.MaxSize), 1<<20)
	g.tub, err = rpc.NewTub(rpc.Config{
		KeyFile: filepath.Join(g.cfg.Dir, keyFile),
		Limits:  rpc.Limits{Token: limit, Message: limit},
		Log:     g.log,

		Features:    wire.Features,
		AnyCopyable: true, // a program's own classes are kept as what they say
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
		MaxEvent:      int(g.settings.Logs.MaxEvent), MaxIncident: int64(g.settings.Incidents.MaxSize),
		UnfinishedFor: g.unfinishedFor, MaxOffers: g.maxOffers,
		Log: g.log,
	}
	if g.logs != nil {
		cfg.WriteEvent = g.logs.Write
		if g.bus != nil {
			cfg.PublishEvent = g.bus.PublishEvent
		}
	}
	if g.archive != nil {
		cfg.Archive, cfg.Sink = g.archive, g.pipeline
	}
	return collect.New(cfg)
}

// disconnect ends all connections and waits for what they brought to be stored.
func (g *Gatherer) disconnect() {
	if g.collector != nil {
		g.collector.Stop()
	}
	if g.tub != nil {
		g.tub.Close()
	}
	if g.collector != nil {
		g.collector.Wait()
	}
}

// Subscribe calls f with the subject and the payload of each message that is
// published on NATS and matches subject, until ctx is done. It may be called
// once Config.Waiting has been.
func (g *Gatherer) Subscribe(ctx context.Context, subject string, f func(subject string, payload []byte)) error {
	if g.bus == nil {
		return errors.New("gatherer: NATS is off")
	}
	return g.bus.Subscribe(ctx, subject, f)
}
