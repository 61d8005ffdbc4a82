package logport_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
)

// The whole set-up of a service: everything is kept in rings, and what leads to a
// warning becomes an incident.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	lp, err := logport.Open(logport.Config{Name: "orders", Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	logger := slog.New(lp.Handler()) // or slog.SetDefault(…)

	logger.Debug("cache miss", "key", "user/7")
	logger.Warn("retry budget exhausted", "facility", "orders.db")

	lp.Flush(context.Background()) // only because the program ends here
	files, _ := filepath.Glob(filepath.Join(dir, "0", "incidents", "*.flog.zst"))
	fmt.Println(len(files), "incident")
	// Output: 1 incident
}

// The attributes facility, umid and parent belong to the event itself; all others are
// its fields. A child's cause is the number that Log returned.
func ExampleLogport_Log() {
	lp, err := logport.Open(logport.Config{Listen: "off"})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	ctx := context.Background()

	request := lp.Log(ctx, slog.LevelInfo, "request", logport.Facility("shop.web"), slog.String("path", "/cart"))
	ctx = logport.WithParent(ctx, request)
	lp.Log(ctx, slog.LevelDebug, "query", logport.Facility("shop.db"), slog.Int("rows", 3))

	for e := range lp.Buffered() {
		if parent, ok := e.Parent(); ok && parent == request {
			rows, _ := e.Get("rows")
			fmt.Println(e.Facility(), e.Text("message"), rows)
		}
	}
	// Output: shop.db query 3
}

// The handler is an ordinary slog.Handler: groups and With work as everywhere.
func ExampleLogport_Handler() {
	lp, err := logport.Open(logport.Config{Listen: "off"})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	logger := slog.New(lp.Handler()).With("facility", "shop.web").WithGroup("request")
	logger.Info("done", "status", 200, "password", "secret")

	for e := range lp.Buffered() {
		if e.Facility() == "shop.web" {
			request, _ := e.Get("request")
			fmt.Printf("%s\n", event.AppendJSON(nil, request))
		}
	}
	// Output: {"status": 200, "password": "(masked)"}
}

// A program can follow its own events; [wire.Subscribe] does the same from another
// process.
func ExampleLogport_Watch() {
	lp, err := logport.Open(logport.Config{Listen: "off"})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	slog.New(lp.Handler()).Warn("disk almost full", "free", 12)

	options := wire.SubscribeOptions{CatchUp: true, Filter: `level >= WEIRD && attrs.free < 100`}
	err = lp.Watch(context.Background(), options, func(b *wire.Batch) error {
		for num, rec := range b.Records() {
			e, err := rec.Event(num, b.Incarnation)
			if err != nil {
				return err
			}
			fmt.Println(e.Level(), e.Text("message"))
			return context.Canceled // enough
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// WEIRD disk almost full
	// context canceled
}
