package wire_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// A reader connects by the FURL, which is also the permission, and gets batches of
// events; the filter runs in the process that logs.
func ExampleSubscribe() {
	lp, err := logport.Open(logport.Config{Name: "orders"}) // elsewhere, as a rule
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	slog.New(lp.Handler()).Info("order placed", "order", 7)
	text, err := lp.FURL()
	if err != nil {
		log.Fatal(err)
	}

	furl, err := rpc.ParseFURL(text)
	if err != nil {
		log.Fatal(err)
	}
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		log.Fatal(err)
	}
	defer tub.Close()
	publisher, err := tub.Connect(context.Background(), furl)
	if err != nil {
		log.Fatal(err)
	}
	enough := errors.New("enough")
	options := wire.SubscribeOptions{CatchUp: true, Filter: `attrs.order == 7`}
	err = wire.Subscribe(context.Background(), publisher, options, func(b *wire.Batch) error {
		for num, rec := range b.Records() {
			e, err := rec.Event(num, b.Incarnation)
			if err != nil {
				return err
			}
			fmt.Println(e.Text("message"))
			return enough
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// order placed
	// enough
}
