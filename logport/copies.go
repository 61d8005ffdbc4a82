package logport

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/logport/internal/publish"
	"github.com/flogtool/flogtool/logport/internal/ring"
)

// copies serves the environment variables by which a person gets at the events of a
// program without changing it; logging-semantics.md section 12:
//
//	FLOGFILE      a file to write all events to from FLOGLEVEL on; removed from
//	              the environment, so that children do not write to it too
//	FLOGLEVEL     a level's number or name; default OPERATIONAL
//	FLOGTOSTDERR  if set, events from FLOGLEVEL on are copied to standard error;
//	              FLOGTOTWISTED is the same
type copies struct {
	pump        *ring.Pump
	incarnation string
	versions    *versions
	reporter    *reporter

	wg sync.WaitGroup
}

// start reads the environment and starts what it asks for, until ctx ends.
func (c *copies) start(ctx context.Context) {
	level := event.Operational
	if s := os.Getenv("FLOGLEVEL"); s != "" {
		if l, ok := event.ParseLevel(s); ok {
			level = l
		} else {
			c.reporter.report(event.Unusual, "FLOGLEVEL is not a level", slog.String("floglevel", s))
		}
	}
	if path := os.Getenv("FLOGFILE"); path != "" {
		os.Unsetenv("FLOGFILE")
		if err := c.toFile(ctx, path, level); err != nil {
			c.reporter.problem("FLOGFILE cannot be written", err)
			fmt.Fprintf(os.Stderr, "FLOGFILE: unable to write to %s, ignoring: %v\n", path, err)
		}
	}
	_, toStderr := os.LookupEnv("FLOGTOSTDERR")
	_, toTwisted := os.LookupEnv("FLOGTOTWISTED")
	if toStderr || toTwisted {
		c.to(ctx, level, func(e *event.Event) error {
			if !defaultNextFilter(slog.LevelInfo, e.Facility()) {
				return nil
			}
			n, _ := e.Num()
			_, err := fmt.Fprintf(os.Stderr, "%s L%d #%d %s\n", e.Time().Local().Format("15:04:05.000"), int(e.Level()), n, pytext.Format(e))
			return err
		}, nil, nil)
	}
}

// toFile writes events to a flog file as they come.
func (c *copies) toFile(ctx context.Context, path string, level event.Level) error {
	if plain, ok := strings.CutSuffix(path, ".bz2"); ok {
		// Writing bzip2 is not for a service's own process.
		path = strings.TrimSuffix(plain, ".flog") + ".flog.zst"
		c.reporter.report(event.Operational, "FLOGFILE is written with another compression", slog.String("file", path))
	}
	w, err := flogfile.Create(path, nil)
	if err != nil {
		return err
	}
	header := event.Dict{
		{Key: "type", Value: "log-file-observer"},
		{Key: "versions", Value: c.versions.all()},
		{Key: "pid", Value: int64(os.Getpid())},
		{Key: "threshold", Value: int64(level)},
	}
	if _, err := w.Write(flogfile.AppendHeader(nil, header)); err != nil {
		w.Close()
		return err
	}
	var d, line []byte
	c.to(ctx, level, func(e *event.Event) error {
		d = e.AppendJSON(d[:0])
		line = flogfile.AppendEvent(line[:0], "local", time.Now(), d)
		_, err := w.Write(line)
		return err
	}, w.Flush, w)
	return nil
}

const copyEnded = "a copy of the events has ended"

// copyBytes bounds the queue of a copy.
const copyBytes = 4 << 20

// to gives write all events from level on, those in the rings first, has flush run
// when it has all there is, and closes end at the end; flush and end may be nil. An
// error of write ends it.
func (c *copies) to(ctx context.Context, level event.Level, write func(*event.Event) error, flush func() error, end io.Closer) {
	f := ring.Follow(c.pump, ring.FollowOptions{CatchUp: true, MaxBytes: copyBytes})
	if flush == nil {
		flush = func() error { return nil }
	}
	c.wg.Go(func() {
		defer f.Stop()
		if end != nil {
			defer end.Close()
		}
		if err := c.run(ctx, f, level, write, flush); err != nil {
			c.reporter.problem(copyEnded, err)
		}
	})
}

func (c *copies) run(ctx context.Context, f *ring.Follower, level event.Level, write func(*event.Event) error, flush func() error) error {
	var losses publish.LossReport
	written := false // since the last flush
	for {
		it, ok := f.Next(ctx, written || losses.Due(), losses.Timer())
		if !ok {
			return nil
		}
		switch it.Kind {
		case ring.Event:
			if it.Record.Level() < level {
				continue
			}
			e, err := it.Record.Event(it.Num, c.incarnation)
			if err == nil {
				err = write(e)
			}
			if err != nil {
				return err
			}
			written = true
		case ring.Lost:
			losses.Add(it.Loss.Count)
		case ring.Idle:
			if written {
				if err := flush(); err != nil {
					return err
				}
				written = false
			}
			if n := losses.Take(); n > 0 {
				c.reporter.reportNow(event.Unusual, "a copy was too slow: events dropped", slog.Uint64("dropped", n))
			}
		}
	}
}
