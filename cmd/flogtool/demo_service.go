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

// runDemoService is one service of the demo: it logs a few hundred events a
// second, nearly all of them at debug level, and now and then something goes
// wrong. It ends with ctx, or when in does.
func runDemoService(ctx context.Context, name, dir string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process at the latest
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
	work, trouble := s.order, s.databaseFails
	first, every := 3*time.Second, 40*time.Second
	if name == "payments" {
		work, trouble = s.payment, s.fraudCheckFails
		first = 20 * time.Second
	}
	fmt.Fprintf(out, "logs everything at debug level, about 600 events a second, and ships none of it\n")
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
			trouble()
			next.Reset(every)
		}
	}
}

// demoService does the work of a service, as far as its log shows it.
type demoService struct {
	log *slog.Logger
	out io.Writer
	id  int
}

func millis(least, most int) int { return least + rand.IntN(most-least+1) }

func (s *demoService) order() {
	s.id++
	s.log.Debug("request", "facility", "orders.http", "order", s.id, "path", "/orders")
	s.log.Debug("cache miss", "facility", "orders.cache", "key", fmt.Sprintf("customer/%d", millis(1, 500)))
	s.log.Debug("query", "facility", "orders.db", "order", s.id, "ms", millis(1, 4), "pool", fmt.Sprintf("%d/20", millis(2, 6)))
}

// databaseFails is what nobody would ever find without the debug events: one
// long report holds a lock, the pool fills up behind it, and an order that has
// nothing to do with it is what fails.
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
	fmt.Fprintf(s.out, "something went wrong: payment %d went through without a fraud check\n", s.id)
	s.log.Info("model rolled back", "facility", "payments.fraud", "version", "2026-11-15")
}
