// Command quickstart is the smallest service with a flight recorder.
package main

import (
	"log"
	"log/slog"

	"github.com/flogtool/flogtool/logport"
)

func main() {
	lp, err := logport.Open(logport.Config{
		Name:      "orders",
		Dir:       "orders-flog",              // keys, FURLs, incidents; "" keeps all in memory
		Gatherers: []string{"gatherers.furl"}, // FURLs, or files of FURLs, one a line
	})
	if err != nil {
		log.Fatal(err)
	}
	defer lp.Close()
	slog.SetDefault(slog.New(lp.Handler()))

	slog.Debug("cache miss", "key", "user/7")                    // kept in a ring, sent nowhere
	slog.Warn("retry budget exhausted", "facility", "orders.db") // makes an incident
}
