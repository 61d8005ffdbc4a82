package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// Both ends in one program: a server that offers an object, and a client that
// has its FURL. The client might as well be Python:
//
//	ref = yield tub.getReference(furl)
//	total = yield ref.callRemote("add", 1, 2)
func Example() {
	ctx := context.Background()

	// The server. With Config.KeyFile and RegisterFile the FURL would last.
	server, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	addr, err := server.Listen("tcp:127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if err := server.SetLocation("tcp:" + addr.String()); err != nil {
		log.Fatal(err)
	}
	furl, err := server.Register(&rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){
		"add": func(c *rpc.Call) (any, error) {
			v, err := c.Require("a", "b") // by position or by name
			if err != nil {
				return nil, err
			}
			a, aok := v[0].(int64)
			b, bok := v[1].(int64)
			if !aok || !bok {
				return nil, rpc.Errorf("builtins.TypeError", "add() wants two integers")
			}
			return a + b, nil
		},
	}}, "")
	if err != nil {
		log.Fatal(err)
	}

	// The client needs neither a port nor a location.
	client, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	calculator, err := client.Connect(ctx, furl)
	if err != nil {
		log.Fatal(err)
	}
	var sum int
	if err := calculator.Call(ctx, "add", rpc.Pos(1, 2), &sum); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)
	// Output: 3
}

// exampleServer returns the FURL of an object with the given methods.
func exampleServer(methods map[string]func(*rpc.Call) (any, error)) (*rpc.Tub, rpc.FURL) {
	server, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	addr, err := server.Listen("tcp:127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if err := server.SetLocation("tcp:" + addr.String()); err != nil {
		log.Fatal(err)
	}
	furl, err := server.Register(&rpc.Methods{Map: methods}, "")
	if err != nil {
		log.Fatal(err)
	}
	return server, furl
}

// What can go wrong with a call, and how to tell.
func ExampleRemote_Call() {
	ctx := context.Background()
	server, furl := exampleServer(map[string]func(*rpc.Call) (any, error){
		"find": func(c *rpc.Call) (any, error) {
			return nil, rpc.Errorf("builtins.KeyError", "no such thing: %v", c.Args.Kw["name"])
		},
	})
	client, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	r, err := client.Connect(ctx, furl)
	if err != nil {
		log.Fatal(err)
	}

	err = r.Call(ctx, "find", rpc.Kw(map[string]any{"name": "grail"}), nil)
	if errors.Is(err, rpc.RemoteType("builtins.KeyError")) {
		fmt.Println("not there:", err)
	}

	err = r.Call(ctx, "find", rpc.Pos(make(chan int)), nil) // cannot be sent
	if v, ok := errors.AsType[*rpc.Violation](err); ok {
		fmt.Println(v)
	}

	server.Close()
	<-r.Done()
	err = r.Call(ctx, "find", rpc.Args{}, nil)
	fmt.Println("connect again:", errors.Is(err, rpc.ErrDeadReference))
	// Output:
	// not there: remote builtins.KeyError: no such thing: grail
	// violation in arguments of find: a chan int cannot be sent
	// connect again: true
}

// A client passes an object of its own, and the server calls it back.
func ExampleObject() {
	ctx := context.Background()
	server, furl := exampleServer(map[string]func(*rpc.Call) (any, error){
		"ask": func(c *rpc.Call) (any, error) {
			observer, ok := c.Args.Pos[0].(*rpc.Remote)
			if !ok {
				return nil, rpc.Errorf("builtins.TypeError", "ask() wants a reference")
			}
			var answer string
			err := observer.Call(c.Context(), "question", rpc.Pos("what is your quest?"), &answer)
			return "the server heard: " + answer, err
		},
	})
	defer server.Close()
	client, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	r, err := client.Connect(ctx, furl)
	if err != nil {
		log.Fatal(err)
	}
	mine := &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){
		"question": func(c *rpc.Call) (any, error) {
			fmt.Println("asked:", c.Args.Pos[0])
			return "I seek the grail", nil
		},
	}}
	var reply string
	if err := r.Call(ctx, "ask", rpc.Pos(mine), &reply); err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply)
	// Output:
	// asked: what is your quest?
	// the server heard: I seek the grail
}

// A method that takes long says Go, so that the calls behind it can start.
func ExampleCall_Go() {
	ctx := context.Background()
	release := make(chan struct{})
	server, furl := exampleServer(map[string]func(*rpc.Call) (any, error){
		"wait":    func(c *rpc.Call) (any, error) { c.Go(); <-release; return "waited", nil },
		"release": func(c *rpc.Call) (any, error) { close(release); return "released", nil },
	})
	defer server.Close()
	client, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	r, err := client.Connect(ctx, furl)
	if err != nil {
		log.Fatal(err)
	}
	wait := r.Start("wait", rpc.Args{}) // sent now, answered later
	var s string
	if err := r.Call(ctx, "release", rpc.Args{}, &s); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s)
	if err := wait.Result(&s); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s)
	// Output:
	// released
	// waited
}

// A client that stays connected, whatever happens to the server.
func ExampleTub_KeepConnected() {
	server, furl := exampleServer(map[string]func(*rpc.Call) (any, error){
		"register": func(c *rpc.Call) (any, error) { return "welcome", nil },
	})
	defer server.Close()
	client, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	greeted := make(chan string)
	rc := client.KeepConnected(furl, func(ctx context.Context, r *rpc.Remote) {
		var s string
		if err := r.Call(ctx, "register", rpc.Args{}, &s); err == nil {
			greeted <- s
		}
		<-ctx.Done() // the connection is lost, or rc was stopped
	})
	defer rc.Stop()
	select {
	case s := <-greeted:
		fmt.Println(s)
	case <-time.After(time.Minute):
		fmt.Println(rc.Status().LastError)
	}
	// Output: welcome
}

// A struct that travels by value under a name both sides know. In Python it is
// a Copyable with the same name and attributes.
func ExampleCopyable() {
	type point struct {
		X int `rpc:"x"`
		Y int `rpc:"y"`
	}
	ctx := context.Background()
	cfg := rpc.Config{Copyables: []rpc.CopyableType{rpc.Copyable[point]("org.example.Point")}}
	tub, err := rpc.NewTub(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer tub.Close()
	if err := tub.SetLocation("tcp:127.0.0.1:1"); err != nil { // nobody listens: this Tub calls itself
		log.Fatal(err)
	}
	furl, err := tub.Register(&rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){
		"mirror": func(c *rpc.Call) (any, error) {
			p, ok := c.Args.Pos[0].(*point)
			if !ok {
				return nil, rpc.Errorf("builtins.TypeError", "mirror() wants a point")
			}
			return point{X: p.Y, Y: p.X}, nil
		},
	}}, "")
	if err != nil {
		log.Fatal(err)
	}
	r, err := tub.Connect(ctx, furl)
	if err != nil {
		log.Fatal(err)
	}
	var p point
	if err := r.Call(ctx, "mirror", rpc.Pos(point{X: 1, Y: 2}), &p); err != nil {
		log.Fatal(err)
	}
	fmt.Println(p)
	// Output: {2 1}
}
