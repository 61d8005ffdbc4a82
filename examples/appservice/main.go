// Command appservice is an app server with its own type of service, a guestbook. The holder
// of a guestbook's FURL can add lines to it, and nothing else.
//
//	appservice create DIR tcp:example.org:3116    make a server's directory
//	appservice add DIR FILE                       add a guestbook, print its FURL
//	appservice run DIR                            run the server until Ctrl-C
//	appservice sign FURL TEXT                     be a client
//
// The commands of flappserver work on the directory too: list, rotate, remove.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// guestbook is a service: an object with one method.
type guestbook struct {
	*rpc.Methods
	log *slog.Logger

	mu   sync.Mutex // held while writing
	file string
}

// newGuestbook returns a guestbook for the arguments with which it was added. It must not
// change anything, since it is also called to check the arguments.
func newGuestbook(at appserver.Place, args []string) (appserver.Service, error) {
	if len(args) != 1 {
		return nil, errors.New("a guestbook takes one file")
	}
	g := &guestbook{file: args[0], log: at.Log}
	if !filepath.IsAbs(g.file) {
		g.file = filepath.Join(at.Base, g.file)
	}
	g.Methods = &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"sign": g.sign}}
	return g, nil
}

// sign(text) adds a line. It checks the argument, which comes from a client.
func (g *guestbook) sign(c *rpc.Call) (any, error) {
	args, err := c.Require("text")
	if err != nil {
		return nil, err
	}
	text, ok := args[0].(string)
	if !ok || len(text) > 1000 || strings.ContainsAny(text, "\r\n") {
		return nil, rpc.Errorf("builtins.ValueError", "sign takes one line of at most 1000 bytes")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := os.OpenFile(g.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintln(f, text)
	g.log.Info("signed", "peer", c.Peer().TubID())
	return nil, errors.Join(err, f.Close())
}

// Close does nothing: a guestbook has no goroutine and no open file between calls.
func (g *guestbook) Close() {}

// types returns the types of the package, and guestbook.
func types() []appserver.Type {
	return append(appserver.Builtin(), appserver.Type{Name: "guestbook", New: newGuestbook})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "appservice:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("wrong usage: see the comment at the top of main.go")
	}
	switch command, dir, rest := args[0], args[1], args[2:]; {
	case command == "create" && len(rest) == 1:
		_, _, err := appserver.Create(dir, appserver.Options{Location: rest[0], Port: port(rest[0]), Umask: 0o077})
		return err
	case command == "add":
		d, err := appserver.OpenDir(dir)
		if err != nil {
			return err
		}
		added, err := d.Add(types(), "guestbook", rest, "")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, added.FURL)
		return err
	case command == "run" && len(rest) == 0:
		d, err := appserver.OpenDir(dir)
		if err != nil {
			return err
		}
		return appserver.Run(ctx, appserver.Config{
			Dir: d, Types: types(), Log: slog.Default(), Ready: func() { fmt.Fprintln(out, "running") },
		})
	case command == "sign" && len(rest) == 1:
		furl, err := rpc.ParseFURL(args[1])
		if err != nil {
			return err
		}
		return appserver.Use(ctx, furl, 0, func(service *rpc.Remote) error {
			return service.Call(ctx, "sign", rpc.Pos(rest[0]), nil)
		})
	}
	return fmt.Errorf("wrong usage: %q", args)
}

// port returns the endpoint to listen on for a location tcp:HOST:PORT.
func port(location string) string {
	return "tcp:" + location[strings.LastIndexByte(location, ':')+1:]
}
