package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/flogtool/flogtool/logport"
)

// This file measures what the recorder costs a service: in requests per second, and in the
// time of the slowest requests.

// order is the body of a request.
type order struct {
	ID    int
	User  string
	Lines []orderLine
}

type orderLine struct {
	Article string
	Count   int
	Price   float64
}

// newService returns the server of a shop: it decodes an order, looks up the articles, adds
// the prices, and answers with compressed JSON. It logs eight events a request at debug
// level.
func newService(l *slog.Logger) http.Handler {
	stock := map[string]int{}
	for i := range 10_000 {
		stock[fmt.Sprint("article-", i)] = i % 50
	}
	var mu sync.RWMutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		l.LogAttrs(ctx, slog.LevelDebug, "request", slog.String("path", r.URL.Path), slog.String("remote", r.RemoteAddr))
		var o order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			http.Error(w, "the body is not an order", http.StatusBadRequest)
			return
		}
		l.LogAttrs(ctx, slog.LevelDebug, "decoded", slog.Int("order", o.ID), slog.Int("lines", len(o.Lines)))
		total, short := 0.0, 0
		mu.RLock()
		for i, line := range o.Lines {
			if stock[line.Article] < line.Count {
				short++
			}
			total += line.Price * float64(line.Count)
			if i%20 == 0 {
				l.LogAttrs(ctx, slog.LevelDebug, "stock", slog.String("article", line.Article), slog.Int("count", line.Count), slog.Int("order", o.ID))
			}
		}
		mu.RUnlock()
		l.LogAttrs(ctx, slog.LevelDebug, "priced", slog.Int("order", o.ID), slog.Float64("total", total), slog.Int("short", short))
		slices.SortFunc(o.Lines, func(a, b orderLine) int { return bytes.Compare([]byte(a.Article), []byte(b.Article)) })
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		err := json.NewEncoder(z).Encode(map[string]any{"order": o, "total": total, "short": short})
		z.Close()
		l.LogAttrs(ctx, slog.LevelDebug, "answered", slog.Int("order", o.ID), slog.Any("err", err))
	})
}

// turn is the result of one call of load.
type turn struct {
	perSecond float64
	p99       float64 // seconds for a request, 99th percentile
	cpu       float64 // seconds of processor time for a request, including the client's
}

// load sends orders from four clients to a server for the time d.
func load(url string, d time.Duration) turn {
	o := order{ID: 1, User: "ann"}
	for i := range 60 {
		o.Lines = append(o.Lines, orderLine{fmt.Sprint("article-", i*37), i % 9, float64(i) * 1.25})
	}
	body, _ := json.Marshal(o)
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start, cpu := time.Now(), processorTime()
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
			defer client.CloseIdleConnections()
			var took []time.Duration
			for time.Since(start) < d {
				t := time.Now()
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				took = append(took, time.Since(t))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed, spent := time.Since(start), processorTime()-cpu
	slices.Sort(all)
	if len(all) == 0 {
		return turn{}
	}
	n := float64(len(all))
	return turn{n / elapsed.Seconds(), all[len(all)*99/100].Seconds(), spent.Seconds() / n}
}

// processorTime returns the processor time that this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serviceRounds is the number of pairs of turns. The result is the median of the pairs, with
// its 95 % confidence interval.
const serviceRounds = 250

// benchService compares the service with and without the recorder.
func benchService(r *report) {
	lp := openForBench(r, logport.Config{Listen: "off", Dir: tempDir(r)})
	defer lp.Close()
	without := httptest.NewServer(newService(slog.New(nothing{off: true})))
	defer without.Close()
	with := httptest.NewServer(newService(slog.New(lp.Handler())))
	defer with.Close()
	load(without.URL, 300*time.Millisecond)
	load(with.URL, 300*time.Millisecond)
	var rate, tail, rates, tails, cpus []float64
	for i := range serviceRounds {
		var a, b turn
		if i%2 == 0 { // each is the second in half of the pairs
			a = load(without.URL, 150*time.Millisecond)
			b = load(with.URL, 150*time.Millisecond)
		} else {
			b = load(with.URL, 150*time.Millisecond)
			a = load(without.URL, 150*time.Millisecond)
		}
		rate, tail = append(rate, a.perSecond), append(tail, a.p99*1e6)
		rates, tails, cpus = append(rates, b.perSecond/a.perSecond), append(tails, b.p99/a.p99), append(cpus, b.cpu/a.cpu)
	}
	r.Row("service without recorder", median(rate), "requests/s")
	r.Row("service without recorder, 99th percentile", median(tail), "us")
	for _, f := range []struct {
		name   string
		ratios []float64
	}{{"throughput", rates}, {"p99", tails}, {"processor time a request", cpus}} {
		low, high := interval(f.ratios)
		r.Row(f.name+" with/without, 95% interval from", low, "")
		r.Row(f.name+" with/without, 95% interval to", high, "")
	}
	r.Ratio("service-throughput", median(rates))
	r.Ratio("service-p99", median(tails))
	r.Ratio("service-cpu", median(cpus))

	worst := worstCall(r, lp)
	r.Row("worst single call while another process syncs the disk", worst.Seconds()*1e3, "ms")
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// interval returns the 95 % confidence interval of the median, from the order statistics.
func interval(v []float64) (low, high float64) {
	s := slices.Sorted(slices.Values(v))
	n := float64(len(s))
	k := int(n/2 - 1.96*math.Sqrt(n)/2)
	return s[max(0, k)], s[min(len(s)-1, len(s)-1-k)]
}

// worstCall logs into mapped rings for two seconds while another file on the same disk is
// written and synced without pause, and returns the time of the slowest call. It takes the
// best of five tries, since a call may also be slow because another process has the
// processor.
func worstCall(r *report, lp *logport.Logport) time.Duration {
	dir := tempDir(r)
	best := time.Hour
	for range 5 {
		ctx, cancel := context.WithCancel(context.Background())
		var syncing sync.WaitGroup
		syncing.Go(func() {
			f, err := os.Create(filepath.Join(dir, "noise"))
			if err != nil {
				r.Errorf("%v", err)
				return
			}
			defer f.Close()
			block := make([]byte, 4<<20)
			for ctx.Err() == nil {
				f.WriteAt(block, 0)
				f.Sync()
			}
		})
		worst, start := time.Duration(0), time.Now()
		for i := 0; time.Since(start) < 2*time.Second; i++ {
			t := time.Now()
			logRequest(lp, i)
			worst = max(worst, time.Since(t))
		}
		cancel()
		syncing.Wait()
		best = min(best, worst)
	}
	return best
}
