package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// newTub returns a Tub that is closed at the end of the test.
func newTub(t testing.TB, cfg rpc.Config) *rpc.Tub {
	t.Helper()
	if cfg.Log == nil && os.Getenv("FLOG_RPC_DEBUG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	tub, err := rpc.NewTub(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tub.Close() })
	return tub
}

// newServer returns a Tub that listens on the loopback interface and has its
// location set.
func newServer(t testing.TB, cfg rpc.Config) *rpc.Tub {
	t.Helper()
	tub := newTub(t, cfg)
	addr, err := tub.Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := tub.SetLocation("tcp:" + addr.String()); err != nil {
		t.Fatal(err)
	}
	return tub
}

func register(t testing.TB, tub *rpc.Tub, obj rpc.Object, name string) rpc.FURL {
	t.Helper()
	f, err := tub.Register(obj, name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// within returns a context with a timeout that suffices on a busy machine.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, tub *rpc.Tub, f rpc.FURL) *rpc.Remote {
	t.Helper()
	r, err := tub.Connect(within(t), f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func call(t testing.TB, r *rpc.Remote, method string, args ...any) any {
	t.Helper()
	var v any
	if err := r.Call(within(t), method, rpc.Pos(args...), &v); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return v
}

type methods = map[string]func(*rpc.Call) (any, error)

func echo(c *rpc.Call) (any, error) {
	v, err := c.Require("v")
	if err != nil {
		return nil, err
	}
	return v[0], nil
}

func TestCall(t *testing.T) {
	server, client := newServer(t, rpc.Config{}), newTub(t, rpc.Config{})
	f := register(t, server, &rpc.Methods{Map: methods{
		"echo": echo,
		"fail": func(*rpc.Call) (any, error) { return nil, rpc.Errorf("builtins.KeyError", "no %d", 7) },
	}}, "")
	r := connect(t, client, f)
	if v := call(t, r, "echo", "hello"); v != "hello" {
		t.Errorf("echo = %v", v)
	}
	err := r.Call(within(t), "fail", rpc.Args{}, nil)
	if !errors.Is(err, rpc.RemoteType("builtins.KeyError")) || !errors.Is(err, rpc.RemoteType("builtins.LookupError")) {
		t.Errorf("fail: %v", err)
	}
}
