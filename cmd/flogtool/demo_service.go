package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/flogtool/flogtool/logport"
)

// demoServices are the services of the demo, each a process of this program.
var demoServices = []string{"orders", "payments"}

// runDemoService is the main function of a service. It logs about 600 events a second, nearly
// all at debug level, and from time to time something fails. It returns when ctx is done or
// at the end of in.
func runDemoService(ctx context.Context, name, dir string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends at the end of in, or with the process
		io.Copy(io.Discard, in)
		cancel()
	}()

	lp, err := logport.Open(logport.Config{
		Name:          name,
		Dir:           filepath.Join(dir, name),
		Gatherers:     []string{filepath.Join(dir, "gatherer", "log_gatherer.furl")},
		TrailingDelay: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	defer lp.Close()
	log := slog.New(lp.Handler())

	s := &demoService{log: log, out: out, id: 1000}
	work, fail := s.order, s.databaseFails
	first, every := 3*time.Second, 40*time.Second
	if name == "payments" {
		work, fail = s.payment, s.fraudCheckFails
		first = 20 * time.Second
	}
	fmt.Fprintf(out, "logs about 600 events a second at debug level, and sends none of them\n")
	requests := time.NewTicker(5 * time.Millisecond)
	defer requests.Stop()
	next := time.NewTimer(first)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-requests.C:
			work()
		case <-next.C:
			fail()
			next.Reset(every)
		}
	}
}

// demoService logs what a service would log. It does no other work.
type demoService struct {
	log *slog.Logger
	out io.Writer
	id  int
}

// millis returns a random number of milliseconds from least to most.
func millis(least, most int) int { return least + rand.IntN(most-least+1) }

func (s *demoService) order() {
	s.id++
	s.log.Debug("request", "facility", "orders.http", "order", s.id, "path", "/orders")
	s.log.Debug("cache miss", "facility", "orders.cache", "key", fmt.Sprintf("customer/%d", millis(1, 500)))
	s.log.Debug("query", "facility", "orders.db", "order", s.id, "ms", millis(1, 4), "pool", fmt.Sprintf("%d/20", millis(2, 6)))
}

// databaseFails logs a failure whose cause is visible in debug events only: a long report
// holds a lock, the connection pool fills up, and an unrelated order fails.
func (s *demoService) databaseFails() {
	s.log.Debug("report begun", "facility", "orders.db", "query", "monthly totals", "lock", "orders")
	for _, pool := range []int{9, 14, 19, 20} {
		s.order()
		s.log.Debug("lock wait", "facility", "orders.db", "order", s.id, "ms", millis(300, 900), "pool", fmt.Sprintf("%d/20", pool))
		time.Sleep(40 * time.Millisecond)
	}
	s.id++
	for attempt := 1; attempt <= 3; attempt++ {
		s.log.Debug("no connection from the pool", "facility", "orders.db", "order", s.id, "attempt", attempt, "pool", "20/20")
		time.Sleep(time.Duration(attempt) * 30 * time.Millisecond)
	}
	s.log.Warn("retry budget exhausted", "facility", "orders.db", "order", s.id, "attempts", 3)
	fmt.Fprintf(s.out, "something went wrong: order %d failed with \"retry budget exhausted\"\n", s.id)
	s.log.Info("report cancelled", "facility", "orders.db", "query", "monthly totals")
	s.log.Info("pool recovered", "facility", "orders.db", "pool", "5/20")
}

func (s *demoService) payment() {
	s.id++
	s.log.Debug("authorize", "facility", "payments.http", "payment", s.id, "cents", millis(100, 20000))
	s.log.Debug("fraud score", "facility", "payments.fraud", "payment", s.id, "score", float64(millis(1, 30))/100)
	s.log.Debug("provider answered", "facility", "payments.provider", "payment", s.id, "ms", millis(20, 60))
}

func (s *demoService) fraudCheckFails() {
	for _, ms := range []int{80, 240, 700} {
		s.payment()
		s.log.Debug("model is slow", "facility", "payments.fraud", "payment", s.id, "ms", ms, "version", "2026-11-22")
		time.Sleep(30 * time.Millisecond)
	}
	s.id++
	s.log.Error("fraud check skipped: no answer in time", "facility", "payments.fraud", "payment", s.id, "ms", 1000)
	fmt.Fprintf(s.out, "something went wrong: payment %d was made without a fraud check\n", s.id)
	s.log.Info("model rolled back", "facility", "payments.fraud", "version", "2026-11-15")
}
