package logport

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

// This file serves the environment variables by which a person gets at the
// events of a program without changing it; logging-semantics.md section 12:
//
//	FLOGFILE      a file to write all events to from FLOGLEVEL on; removed from
//	              the environment, so that children do not write to it too
//	FLOGLEVEL     a level's number or name; default OPERATIONAL
//	FLOGTOSTDERR  if set, events from FLOGLEVEL on are copied to standard error;
//	              FLOGTOTWISTED is the same

// copies reads the environment and starts what it asks for.
func (lp *Logport) copies() {
	level := event.Operational
	if s := os.Getenv("FLOGLEVEL"); s != "" {
		if l, ok := event.ParseLevel(s); ok {
			level = l
		} else {
			lp.report(unusual, "FLOGLEVEL is no level", slog.String("floglevel", s))
		}
	}
	if path := os.Getenv("FLOGFILE"); path != "" {
		os.Unsetenv("FLOGFILE")
		if err := lp.copyToFile(path, level); err != nil {
			lp.report(unusual, "FLOGFILE cannot be written", slog.String("err", err.Error()))
			fmt.Fprintf(os.Stderr, "FLOGFILE: unable to write to %s, ignoring: %v\n", path, err)
		}
	}
	_, toStderr := os.LookupEnv("FLOGTOSTDERR")
	_, toTwisted := os.LookupEnv("FLOGTOTWISTED")
	if toStderr || toTwisted {
		lp.copyTo(level, func(e *event.Event) error {
			if !defaultNextFilter(slog.LevelInfo, e.Facility()) {
				return nil
			}
			n, _ := e.Num()
			_, err := fmt.Fprintf(os.Stderr, "%s L%d #%d %s\n", e.Time().Local().Format("15:04:05.000"), int(e.Level()), n, event.Format(e))
			return err
		}, nil, nil)
	}
}

// copyToFile writes events to a flog file as they come.
func (lp *Logport) copyToFile(path string, level event.Level) error {
	if plain, ok := strings.CutSuffix(path, ".bz2"); ok {
		// Writing bzip2 is not for a service's own process.
		path = strings.TrimSuffix(plain, ".flog") + ".flog.zst"
		lp.report(event.Operational, "FLOGFILE is written with another compression", slog.String("file", path))
	}
	w, err := flogfile.Create(path, nil)
	if err != nil {
		return err
	}
	header := event.Dict{
		{Key: "type", Value: "log-file-observer"},
		{Key: "versions", Value: lp.versions.all()},
		{Key: "pid", Value: int64(os.Getpid())},
		{Key: "threshold", Value: int64(level)},
	}
	if _, err := w.Write(flogfile.AppendHeader(nil, header)); err != nil {
		w.Close()
		return err
	}
	var d, line []byte
	lp.copyTo(level, func(e *event.Event) error {
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

// copyTo gives write all events from level on, those in the rings first, has
// flush run when it has all there is, and closes c at the end; flush and c may be
// nil. An error of write ends it.
func (lp *Logport) copyTo(level event.Level, write func(*event.Event) error, flush func() error, c io.Closer) {
	f := follow(lp.rings, lp.pump, true, 0, copyBytes)
	lp.copiers.Go(func() {
		defer f.stop()
		if c != nil {
			defer c.Close()
		}
		var t teller
		written := false // since the last flush
		for {
			num, rec, ok := f.next(lp.late, written, t.quiet())
			if !ok {
				return
			}
			if rec == nil {
				if written && flush != nil {
					if err := flush(); err != nil {
						lp.report(unusual, copyEnded, slog.String("err", err.Error()))
						return
					}
				}
				written = false
				if n := t.add(f.takeLost().count); n > 0 {
					lp.reportNow(unusual, "a copy was too slow: events dropped", slog.Uint64("dropped", n))
				}
				continue
			}
			if rec.Level() < level {
				continue
			}
			e, err := rec.Event(num, lp.incarnation)
			if err == nil {
				err = write(e)
			}
			written = true
			if err != nil {
				lp.report(unusual, copyEnded, slog.String("err", err.Error()))
				return
			}
		}
	})
}
