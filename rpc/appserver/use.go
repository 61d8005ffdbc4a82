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

// silenceTimeout is the silence after which a peer counts as lost. It is a choice.
const silenceTimeout = 3 * time.Minute

// Use connects to the service that furl names, calls use with it, and closes the
// connection.
//
// It waits half a minute for a connection and a minute for the service. Later, a
// server that answers no ping for the time silence, or for three minutes if silence is
// 0, loses the connection. A command may run for any time without output.
//
// The error is that of [rpc.Tub.Connect] or of use.
func Use(ctx context.Context, furl rpc.FURL, silence time.Duration, use func(service *rpc.Remote) error) error {
	silence = cmp.Or(silence, silenceTimeout)
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

// ExpandHome replaces ~ at the start of a path by the user's home directory. Shells do
// not do that after an option such as --furlfile=.
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
