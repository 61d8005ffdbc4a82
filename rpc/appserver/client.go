package appserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/flogtool/flogtool/rpc"
)

// maxBlock is the maximum number of bytes sent at once. The original's server asks for as
// many.
const maxBlock = 1 << 20

// Upload stores the content of in under name in the directory of an upload-file service.
// It returns when the server has stored the whole file. progress, unless it is nil, is
// called after each block with the number of bytes sent so far, never concurrently.
//
// The error is that of [rpc.Remote.Call]; what the server refuses is a
// [*rpc.RemoteError].
func Upload(ctx context.Context, service *rpc.Remote, name string, in io.Reader, progress func(sent int64)) error {
	// The original's server asks for one block after the other, ours for several ahead.
	// The calls of one connection never run concurrently.
	var sent int64
	var block []byte // its content is encoded before the next call
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
	Code   int // 0 if a signal ended it
	Signal int // 0: none
}

// Execute runs the command of a run-command service and returns how it ended. It writes
// the output to stdout and stderr as it arrives; while these block, so does the command.
// It reads in if the service takes standard input; a Read may still be in progress when
// Execute has returned.
//
// The error is that of [rpc.Remote.Call], [rpc.ErrDeadReference] if the connection is
// lost before the command ends, that of writing the output, or the cause of ctx.
func Execute(ctx context.Context, service *rpc.Remote, in io.Reader, stdout, stderr io.Writer) (Exit, error) {
	return execute(ctx, service, "execute", nil, in, stdout, stderr)
}

// execute is Execute for a method whose arguments are args and the watcher.
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
		go feed(stdin, in) // returns at the end of in or after the connection is lost
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
	select { // both may have happened
	case exit := <-w.done:
		return exit, nil
	default:
		return Exit{}, fmt.Errorf("appserver: the connection was lost while the command ran: %w", service.Err())
	}
}

// feed sends standard input up to its end, or until the command accepts no more or the
// connection is lost.
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

// A watcher receives the output and the end of a command. Only the first end counts.
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
