package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/flogtool/flogtool/gatherer"
	"github.com/flogtool/flogtool/logport"
)

// inFlight is the number of events that are logged but not yet on disk. It is less than the
// publisher's queue holds, so that no event is dropped.
const inFlight = 1500

// benchGatherer measures how many events of a Go publisher a log gatherer writes in a second:
// ours, and the original's if it is installed. They are connected by TLS on the loopback
// interface. An event counts when its line is in the file.
func benchGatherer(r *report) {
	ours, err := gatherInto(startGatherer, 10*time.Second)
	if err != nil {
		r.Errorf("log gatherer: %v", err)
		return
	}
	r.Row("Go publisher into our log gatherer", ours, "events/s")
	original, err := gatherInto(startOriginalGatherer, 10*time.Second)
	if errors.Is(err, exec.ErrNotFound) {
		r.Row("the same into the original's: not installed", 0, "events/s")
		return
	}
	if err != nil {
		r.Errorf("the original's log gatherer: %v", err)
		return
	}
	r.Row("the same publisher into the original's", original, "events/s")
	r.Ratio("gatherer/ours-to-original", ours/original)
}

// gatherInto starts a gatherer in a new directory, logs to it for the time d, and returns the
// rate.
func gatherInto(start func(dir, port string) (furl string, stop func(), err error), d time.Duration) (perSecond float64, err error) {
	temp, err := os.MkdirTemp("", "flogtool-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(temp)
	dir := filepath.Join(temp, "g")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	furl, stop, err := start(dir, port)
	if err != nil {
		return 0, err
	}
	defer stop()

	lp, err := logport.Open(logport.Config{Name: "bench", Gatherers: []string{furl}})
	if err != nil {
		return 0, err
	}
	defer lp.Close()
	log := slog.New(lp.Handler())
	file, err := presentLog(dir)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	disk := &lineCounter{file: file}

	// The log gatherer gets the events that are logged after it has subscribed. The
	// measurement begins when an event has arrived.
	ctx := context.Background()
	for deadline := time.Now().Add(30 * time.Second); disk.events() == 0; {
		if time.Now().After(deadline) {
			return 0, errors.New("no event has arrived in 30 s")
		}
		log.DebugContext(ctx, "anybody there?")
		time.Sleep(10 * time.Millisecond)
	}
	for before := -1; before != disk.events(); time.Sleep(200 * time.Millisecond) {
		before = disk.events()
	}
	begin, from, sent := time.Now(), disk.events(), 0
	for time.Since(begin) < d {
		room := inFlight - (sent - (disk.events() - from))
		if room < inFlight/4 {
			time.Sleep(time.Millisecond) // leave the processor to the gatherer
		}
		for range room {
			log.LogAttrs(ctx, slog.LevelDebug, "request done",
				slog.Int("order", sent), slog.String("path", "/orders"), slog.Float64("ms", 1.25))
			sent++
		}
	}
	return float64(disk.events()-from) / time.Since(begin).Seconds(), nil
}

// startGatherer runs our gatherer.
func startGatherer(dir, port string) (furl string, stop func(), err error) {
	err = gatherer.Create(dir, gatherer.Options{Port: "tcp:" + port + ":interface=127.0.0.1", Location: "tcp:127.0.0.1:" + port})
	if err != nil {
		return "", nil, err
	}
	waiting := make(chan string, 1)
	g, err := gatherer.New(gatherer.Config{Dir: dir, Waiting: func(furl string) { waiting <- furl }})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	select {
	case furl = <-waiting:
		return furl, func() { cancel(); <-ended }, nil
	case err := <-ended:
		cancel()
		return "", nil, err
	}
}

// startOriginalGatherer runs the original's gatherer, as Debian installs it. The error is
// exec.ErrNotFound if it is not installed.
func startOriginalGatherer(dir, port string) (furl string, stop func(), err error) {
	out, err := exec.Command("/usr/bin/flogtool", "create-gatherer", "--quiet",
		"--port", "tcp:"+port+":interface=127.0.0.1", "--location", "tcp:127.0.0.1:"+port, dir).CombinedOutput()
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, exec.ErrNotFound
	}
	if err != nil {
		return "", nil, fmt.Errorf("create-gatherer: %w: %s", err, out)
	}
	cmd := exec.Command("/usr/bin/twistd3", "--nodaemon", "--python", "gatherer.tac")
	cmd.Dir = dir
	lines, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, err
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	for in := bufio.NewScanner(lines); in.Scan(); {
		if _, furl, ok := strings.Cut(in.Text(), "Gatherer waiting at: "); ok {
			go io.Copy(io.Discard, lines) // ends with the program
			return furl, stop, nil
		}
	}
	stop()
	return "", nil, errors.New("the original's gatherer has ended")
}

// presentLog opens the file that the gatherer writes to.
func presentLog(dir string) (*os.File, error) {
	files, err := filepath.Glob(filepath.Join(dir, "from-*---to-present.flog"))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%d growing log files in %s", len(files), dir)
	}
	return os.Open(files[0])
}

// lineCounter counts the events in a growing file.
type lineCounter struct {
	file  *os.File
	buf   [64 << 10]byte
	lines int
}

func (c *lineCounter) events() int {
	for {
		n, err := c.file.Read(c.buf[:])
		c.lines += bytes.Count(c.buf[:n], []byte{'\n'})
		if err != nil || n == 0 {
			return max(0, c.lines-2) // the magic line and the header
		}
	}
}
