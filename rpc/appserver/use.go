package appserver

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// giveUp is the silence after which the other side counts as gone. It is taste.
const giveUp = 3 * time.Minute

// Use connects to the service that furl names, calls use with it, and ends the
// connection.
//
// A server that cannot be reached is given up after half a minute, one that does
// not answer after a minute, and one that later answers no ping for silence, or
// for three minutes if that is 0. A command may be silent for as long as it likes.
//
// Errors are those of [rpc.Tub.Connect] and of use.
func Use(ctx context.Context, furl rpc.FURL, silence time.Duration, use func(service *rpc.Remote) error) error {
	silence = cmp.Or(silence, giveUp)
	tub, err := rpc.NewTub(rpc.Config{
		DialTimeout:       30 * time.Second,
		KeepaliveTimeout:  silence / 3,
		DisconnectTimeout: silence,
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
