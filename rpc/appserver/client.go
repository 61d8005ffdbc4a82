package appserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/flogtool/flogtool/rpc"
)

// maxBlock is how much of a file is sent at once; the original's server asks for
// as much.
const maxBlock = 1 << 20

// Upload stores what in gives under name in the directory of an upload-file
// service. progress, if not nil, is called with the bytes sent so far, one call
// after the other. It returns when the server has the whole file.
func Upload(ctx context.Context, service *rpc.Remote, name string, in io.Reader, progress func(sent int64)) error {
	// The original's server asks for one block after the other, ours for some
	// ahead; calls of one connection come one after the other anyway.
	var sent int64
	var block []byte // encoded before the next call
	source := &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){
		"read": func(c *rpc.Call) (any, error) {
			args, err := c.Require("size")
			if err != nil {
				return nil, err
			}
			var size int
			if err := rpc.Convert(args[0], &size); err != nil {
				return nil, err
			}
			if size < 1 {
				return nil, rpc.Errorf("builtins.ValueError", "size %d", size)
			}
			if size = min(size, maxBlock); size > len(block) {
				block = make([]byte, size)
			}
			n, err := io.ReadFull(in, block[:size])
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return nil, err
			}
			sent += int64(n)
			if progress != nil {
				progress(sent)
			}
			return block[:n], nil
		},
	}}
	return service.Call(ctx, "putfile", rpc.Pos([]byte(name), source), nil)
}

// An Exit is how a command ended.
type Exit struct {
	Code   int // unless a signal ended it
	Signal int // 0 is none
}

// Execute runs the command of a run-command service and returns how it ended.
// Its output goes to stdout and stderr as it comes; while these block, so does
// the command. in is read if the service takes standard input, and then perhaps
// still when Execute has returned.
//
// The error is [rpc.ErrDeadReference] if the connection is lost before the end.
func Execute(ctx context.Context, service *rpc.Remote, in io.Reader, stdout, stderr io.Writer) (Exit, error) {
	return execute(ctx, service, "execute", nil, in, stdout, stderr)
}

// execute is Execute by a method whose arguments are args and the watcher.
func execute(ctx context.Context, service *rpc.Remote, method string, args []any, in io.Reader, stdout, stderr io.Writer) (Exit, error) {
	w := &watcher{done: make(chan Exit, 1), failed: make(chan error, 1)}
	object := &rpc.Methods{Borrow: true, Map: map[string]func(*rpc.Call) (any, error){
		"stdout": w.output(stdout),
		"stderr": w.output(stderr),
		"done":   w.ended,
	}}
	var command any
	if err := service.Call(ctx, method, rpc.Pos(append(args, object)...), &command); err != nil {
		return Exit{}, err
	}
	if stdin, ok := command.(*rpc.Remote); ok {
		go feed(stdin, in) // ends with in or the connection, whichever is first noticed
	}
	select {
	case exit := <-w.done:
		return exit, nil
	case err := <-w.failed:
		return Exit{}, err
	case <-service.Done():
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
	select { // both may have come
	case exit := <-w.done:
		return exit, nil
	default:
		return Exit{}, fmt.Errorf("appserver: the command was lost: %w", service.Err())
	}
}

// feed sends standard input up to its end, or until the command takes no more or
// the connection is lost.
func feed(stdin *rpc.Remote, in io.Reader) {
	var sent window
	buf := make([]byte, outputBlock)
	for {
		n, err := in.Read(buf)
		if n > 0 && sent.send(context.Background(), stdin, "feed_stdin", buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = stdin.Send("close_stdin", rpc.Args{})
			return
		}
	}
}

// A watcher hears of a running command. Its first end counts.
type watcher struct {
	done   chan Exit
	failed chan error
	once   sync.Once
}

func (w *watcher) output(to io.Writer) func(*rpc.Call) (any, error) {
	return func(c *rpc.Call) (any, error) {
		args, err := c.Require("data")
		if err != nil {
			return nil, err
		}
		var data []byte
		if err := rpc.Convert(args[0], &data); err != nil {
			return nil, err
		}
		if _, err := to.Write(data); err != nil {
			w.once.Do(func() { w.failed <- err })
		}
		return nil, nil
	}
}

func (w *watcher) ended(c *rpc.Call) (any, error) {
	args, err := c.Require("signal", "exitcode")
	if err != nil {
		return nil, err
	}
	var exit Exit
	if err := errors.Join(rpc.Convert(args[0], &exit.Signal), rpc.Convert(args[1], &exit.Code)); err != nil {
		w.once.Do(func() { w.failed <- err })
		return nil, err
	}
	w.once.Do(func() { w.done <- exit })
	return nil, nil
}
