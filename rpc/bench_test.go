package rpc_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flogtool/flogtool/rpc"
)

// benchmark keeps n calls of f in flight until b.N are done.
func benchmark(b *testing.B, n int, f func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}

func BenchmarkCall(b *testing.B) {
	server := newServer(b, rpc.Config{})
	r := connect(b, newTub(b, rpc.Config{}), register(b, server, &rpc.Methods{Map: methods{"echo": echo}}, ""))
	payload := []byte("a payload of thirty-two bytes...")
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchmark(b, n, func() error {
				var reply []byte
				return r.Call(context.Background(), "echo", rpc.Pos(payload), &reply)
			})
		})
	}
}

func BenchmarkBytes(b *testing.B) {
	server := newServer(b, rpc.Config{})
	client := newTub(b, rpc.Config{})
	payload := make([]byte, 64<<10)
	for _, borrow := range []bool{true, false} {
		b.Run(fmt.Sprintf("borrow=%v", borrow), func(b *testing.B) {
			sink := &rpc.Methods{Borrow: borrow, Map: methods{"sink": func(*rpc.Call) (any, error) { return nil, nil }}}
			r := connect(b, client, register(b, server, sink, ""))
			b.SetBytes(int64(len(payload)))
			benchmark(b, 8, func() error { return r.Call(context.Background(), "sink", rpc.Pos(payload), nil) })
		})
	}
}
