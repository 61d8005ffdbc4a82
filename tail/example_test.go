package tail_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/tail"
)

// A flog file of three events.
const orders = flogfile.Magic +
	`{"from": "orders", "rx_time": 1700000010.0, "d": {"num": 0, "level": 10, "facility": "orders.cache", "message": "cache miss", "time": 1700000000.25, "incarnation": ["ab", null]}}
{"from": "orders", "rx_time": 1700000010.0, "d": {"num": 1, "level": 20, "facility": "orders.db", "message": "query took 900 ms", "time": 1700000001.5, "incarnation": ["ab", null]}}
{"from": "orders", "rx_time": 1700000010.0, "d": {"num": 2, "level": 30, "facility": "orders.db", "message": "retry budget exhausted", "time": 1700000002.75, "incarnation": ["ab", null]}}
`

func ExampleDump() {
	facility := "orders.db"
	d := tail.Dump{
		Files:  []string{"-"}, // usually what tail.Expand returns
		In:     strings.NewReader(orders),
		Style:  tail.Style{Times: tail.UTC},
		Select: &tail.Select{Facility: &facility},
		Out:    os.Stdout,
	}
	if err := d.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// orders#1 2023-11-14_22:13:21.500000Z: query took 900 ms
	// orders#2 2023-11-14_22:13:22.750000Z: retry budget exhausted
}

// The table of a dump, of the last two events.
func ExampleDump_table() {
	d := tail.Dump{
		Files:  []string{"-"},
		In:     strings.NewReader(orders),
		Style:  tail.Style{Form: tail.FormTable, Zone: time.UTC},
		Select: &tail.Select{Last: 2},
		Out:    os.Stdout,
	}
	if err := d.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// time          event     level        facility   text
	// 22:13:21.500  orders#1  OPERATIONAL  orders.db  query took 900 ms
	// 22:13:22.750  orders#2  WEIRD        orders.db  retry budget exhausted
}

func ExampleFilter() {
	level := event.Weird
	f := tail.Filter{
		Files:  []string{"-"},
		In:     strings.NewReader(orders),
		To:     "-", // usually the name of a file
		Select: &tail.Select{Level: &level},
		Out:    os.Stdout,
	}
	if err := f.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	kept, total := f.Counts()
	fmt.Println(kept, "of", total)
	// Output:
	// # foolscap flogfile v1
	// {"from": "orders", "rx_time": 1700000010.0, "d": {"num": 2, "level": 30, "facility": "orders.db", "message": "retry budget exhausted", "time": 1700000002.75, "incarnation": ["ab", null]}}
	// 1 of 3
}

// A process follows itself until an event has been shown. Usually the target is another
// process, named on the command line: see tail.ParseTarget.
func ExampleFollow() {
	lp, err := logport.Open(logport.Config{Name: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	slog.New(lp.Handler()).Warn("retry budget exhausted", "facility", "orders.db", "order", 1007)

	furl, err := lp.FURL()
	if err != nil {
		log.Fatal(err)
	}
	target, err := tail.ParseTarget(furl)
	if err != nil {
		log.Fatal(err)
	}
	format, err := tail.ParseTemplate("{{.Name}} {{.Facility}}: {{.Text}} (order {{.Attrs.order}})")
	if err != nil {
		log.Fatal(err)
	}
	facility := "orders"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := tail.Follow{
		Targets: []tail.Target{target},
		CatchUp: true, // the event is in the rings already
		Style:   tail.Style{Form: tail.FormTemplate, Template: format},
		Select:  &tail.Select{Facility: &facility},
		Out: writerFunc(func(text []byte) {
			fmt.Printf("%s", text)
			cancel()
		}),
		Status: io.Discard, // lines such as "Connected"
	}
	if err := f.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// WEIRD orders.db: retry budget exhausted (order 1007)
}

// writerFunc is an io.Writer.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func ExampleParseTime() {
	now := time.Date(2026, 11, 24, 16, 4, 0, 0, time.UTC)
	for _, text := range []string{"-15m", "16:00", "2026-11-24", "1700000000.25"} {
		t, err := tail.ParseTime(text, now)
		fmt.Printf("%.2f %v\n", t, err)
	}
	_, err := tail.ParseTime("yesterday", now)
	fmt.Println(err)
	// Output:
	// 1795535340.00 <nil>
	// 1795536000.00 <nil>
	// 1795478400.00 <nil>
	// 1700000000.25 <nil>
	// "yesterday" is not a time: want RFC 3339 (2026-11-22T16:04:05Z), 2026-11-22 16:04:05, 16:04, seconds since 1970, or -15m
}
