package appserver

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// Use connects to the service that furl names, calls use with it, and ends the
// connection.
//
// A server that cannot be reached is given up after half a minute, one that does
// not answer after a minute. One that vanishes later is found out by pings, once
// the system gives up sending them; silence alone is no reason, for a command may
// be silent.
//
// Errors are those of [rpc.Tub.Connect] and of use.
func Use(ctx context.Context, furl rpc.FURL, use func(service *rpc.Remote) error) error {
	tub, err := rpc.NewTub(rpc.Config{
		DialTimeout:      30 * time.Second,
		KeepaliveTimeout: time.Minute,
	})
	if err != nil {
		return err
	}
	defer tub.Close()
	dial, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no answer for a minute"))
	defer cancel()
	service, err := tub.Connect(dial, furl)
	if err != nil {
		return err
	}
	return use(service)
}

// ExpandHome replaces ~ and ~/ at the front of a path, which shells leave alone
// behind the likes of --furlfile=.
func ExpandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && rest[0] != '/' {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return home + rest
}
