package appserver_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

// A server with one service, and a client that has its FURL.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	top, err := os.MkdirTemp("", "appserver")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(top)

	// A port that is free now. A real server has a fixed one.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	location := "tcp:" + l.Addr().String()
	l.Close()

	// The server's directory, and a service.
	dir, _, err := appserver.Create(filepath.Join(top, "fs"), appserver.Options{Port: location, Location: location})
	if err != nil {
		log.Fatal(err)
	}
	service, err := dir.Add(appserver.Builtin(), "run-command", []string{"--accept-stdin", "/", "tr", "a-z", "A-Z"}, "loud")
	if err != nil {
		log.Fatal(err)
	}

	// The server runs until its context is done.
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- appserver.Run(ctx, appserver.Config{Dir: dir, Ready: func() { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-ended:
		log.Fatal(err)
	}

	// The client.
	err = appserver.Use(ctx, service.FURL, 0, func(r *rpc.Remote) error {
		var out strings.Builder
		exit, err := appserver.Execute(ctx, r, strings.NewReader("hello"), &out, io.Discard)
		fmt.Println(out.String(), exit.Code)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// HELLO 0
	// <nil>
}
