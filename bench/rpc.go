package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	netrpc "net/rpc"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flogtool/flogtool/rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	rpcRounds  = 3                      // rounds of each measurement, of which the best counts
	rpcTime    = 700 * time.Millisecond // of one round
	rpcFlight  = 256                    // calls in flight
	rpcPayload = 64 << 10               // bytes
)

// echoer calls an echo method once, from any goroutine.
type echoer interface {
	echo(payload []byte) error
	close()
}

// benchRPC compares calls over TLS on the loopback interface. Client and server are both in
// this process; those of the original are two Python processes.
func benchRPC(r *report) {
	libraries := []struct {
		name  string
		start func() (echoer, error)
	}{
		{"rpc", startOurs},
		{"net/rpc", startNetRPC},
		{"gRPC", startGRPC},
	}
	var started []echoer
	for _, c := range libraries {
		e, err := c.start()
		if err != nil {
			r.Errorf("%s: %v", c.name, err)
			return
		}
		defer e.close()
		started = append(started, e)
	}
	small := []byte("a payload of thirty-two bytes...")
	one, many := make([]float64, len(started)), make([]float64, len(started))
	for range rpcRounds {
		for i, e := range started {
			one[i] = max(one[i], callRate(r, e, 1, small))
			many[i] = max(many[i], callRate(r, e, rpcFlight, small))
		}
	}
	large := make([]byte, rpcPayload)
	var borrowed, owned, plain float64
	borrower, err := startSink(true)
	if err != nil {
		r.Errorf("sink: %v", err)
		return
	}
	defer borrower.close()
	owner, err := startSink(false)
	if err != nil {
		r.Errorf("sink: %v", err)
		return
	}
	defer owner.close()
	for range rpcRounds {
		borrowed = max(borrowed, callRate(r, borrower, 8, large)*rpcPayload/1e6)
		plain = max(plain, copyRate(r, large))
		owned = max(owned, callRate(r, owner, 8, large)*rpcPayload/1e6)
	}
	for i, c := range libraries {
		r.Row(c.name+", one at a time", one[i], "calls/s")
	}
	for i, c := range libraries {
		r.Row(fmt.Sprintf("%s, %d in flight", c.name, rpcFlight), many[i], "calls/s")
	}
	foolscapOne, foolscapMany, err := foolscapRates()
	if err != nil {
		r.Errorf("the original: %v", err)
	} else {
		r.Row("Foolscap, one at a time", foolscapOne, "calls/s")
		r.Row(fmt.Sprintf("Foolscap, %d in flight", rpcFlight), foolscapMany, "calls/s")
	}
	r.Row("rpc, byte strings of 64 KiB, borrowed", borrowed, "MB/s")
	r.Row("rpc, byte strings of 64 KiB, in new memory", owned, "MB/s")
	r.Row("crypto/tls, writes of 64 KiB", plain, "MB/s")
	idleMemory(r)
	r.Ratio("rpc-1-vs-netrpc", one[0]/one[1])
	r.Ratio("rpc-256-vs-netrpc", many[0]/many[1])
	r.Ratio("rpc-1-vs-grpc", one[0]/one[2])
	r.Ratio("rpc-256-vs-grpc", many[0]/many[2])
	if foolscapOne > 0 {
		r.Ratio("rpc-1-vs-foolscap", one[0]/foolscapOne)
		r.Ratio("rpc-256-vs-foolscap", many[0]/foolscapMany)
	}
	r.Ratio("rpc-bytes-vs-tls", borrowed/plain)
	r.Ratio("rpc-owned-bytes-vs-tls", owned/plain)
}

// callRate keeps n calls in flight for a round, and returns the calls per second.
func callRate(r *report, e echoer, n int, payload []byte) float64 {
	runtime.GC()
	var calls atomic.Int64
	var failed atomic.Value
	deadline := time.Now().Add(rpcTime)
	start := time.Now()
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for time.Now().Before(deadline) {
				if err := e.echo(payload); err != nil {
					failed.Store(err)
					return
				}
				calls.Add(1)
			}
		})
	}
	callers.Wait()
	if err, ok := failed.Load().(error); ok {
		r.Errorf("%T: %v", e, err)
	}
	return float64(calls.Load()) / time.Since(start).Seconds()
}

// ours is a client and a server of package rpc.
type ours struct {
	client, server *rpc.Tub
	remote         *rpc.Remote
	method         string
}

// startTubs registers a method at one Tub and connects another to it.
func startTubs(method string, borrow bool, f func(*rpc.Call) (any, error)) (*ours, error) {
	o := &ours{method: method}
	var err error
	if o.server, err = rpc.NewTub(rpc.Config{}); err != nil {
		return nil, err
	}
	addr, err := o.server.Listen("tcp:127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := o.server.SetLocation("tcp:" + addr.String()); err != nil {
		return nil, err
	}
	furl, err := o.server.Register(&rpc.Methods{Borrow: borrow, Map: map[string]func(*rpc.Call) (any, error){method: f}}, "")
	if err != nil {
		return nil, err
	}
	if o.client, err = rpc.NewTub(rpc.Config{}); err != nil {
		return nil, err
	}
	o.remote, err = o.client.Connect(context.Background(), furl)
	return o, err
}

func startOurs() (echoer, error) {
	return startTubs("echo", false, func(c *rpc.Call) (any, error) { return c.Args.Pos[0], nil })
}

// startSink registers a method that takes bytes and returns None. With borrow the bytes are
// valid only during the call, which suffices for a method that writes them to a file.
func startSink(borrow bool) (echoer, error) {
	return startTubs("sink", borrow, func(c *rpc.Call) (any, error) { return nil, nil })
}

func (o *ours) echo(payload []byte) error {
	var reply []byte
	return o.remote.Call(context.Background(), o.method, rpc.Pos(payload), &reply)
}

func (o *ours) close() { o.client.Close(); o.server.Close() }

// Echo is the service of net/rpc, which requires that it is exported.
type Echo struct{}

// Echo returns args.
func (Echo) Echo(args *[]byte, reply *[]byte) error { *reply = *args; return nil }

// viaNetRPC is a client and a server of net/rpc.
type viaNetRPC struct {
	ln     net.Listener
	client *netrpc.Client
}

func startNetRPC() (echoer, error) {
	serverTLS, clientTLS, err := keys()
	if err != nil {
		return nil, err
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
	if err != nil {
		return nil, err
	}
	s := netrpc.NewServer()
	if err := s.Register(Echo{}); err != nil {
		return nil, err
	}
	go func() { // ends when ln is closed
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(c)
		}
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), clientTLS)
	if err != nil {
		return nil, err
	}
	return &viaNetRPC{ln, netrpc.NewClient(c)}, nil
}

func (v *viaNetRPC) echo(payload []byte) error {
	var reply []byte
	return v.client.Call("Echo.Echo", &payload, &reply)
}

func (v *viaNetRPC) close() { v.client.Close(); v.ln.Close() }

// viaGRPC is a client and a server of gRPC.
type viaGRPC struct {
	server *grpc.Server
	client *grpc.ClientConn
}

func startGRPC() (echoer, error) {
	serverTLS, clientTLS, err := keys()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			return in, decode(in)
		}}},
	}, nil)
	go s.Serve(ln) // ends with close
	c, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)))
	if err != nil {
		return nil, err
	}
	return &viaGRPC{s, c}, nil
}

func (v *viaGRPC) echo(payload []byte) error {
	out := new(wrapperspb.BytesValue)
	return v.client.Invoke(context.Background(), "/bench.Echo/Echo", wrapperspb.Bytes(payload), out)
}

func (v *viaGRPC) close() { v.client.Close(); v.server.Stop() }

// keys returns TLS settings like those of our Tubs: both sides have a key, and there are no
// session tickets and no small records at the start.
func keys() (server, client *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	cfg := &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
	}
	return cfg, cfg.Clone(), nil
}

// copyRate writes payloads to a plain TLS connection for a round, and returns the rate in
// MB/s.
func copyRate(r *report, payload []byte) float64 {
	runtime.GC()
	server, client, err := keys()
	if err != nil {
		r.Errorf("%v", err)
		return 0
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		r.Errorf("%v", err)
		return 0
	}
	defer ln.Close()
	var received int64
	var reader sync.WaitGroup
	reader.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		received, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, rpcPayload))
	})
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		r.Errorf("%v", err)
		return 0
	}
	start := time.Now()
	for time.Since(start) < rpcTime {
		if _, err := c.Write(payload); err != nil {
			r.Errorf("%v", err)
			break
		}
	}
	c.Close()
	reader.Wait()
	return float64(received) / time.Since(start).Seconds() / 1e6
}

// idleMemory measures the memory and the goroutines of idle connections, both ends.
func idleMemory(r *report) {
	const n = 1000
	server, err := startTubs("nothing", false, func(*rpc.Call) (any, error) { return nil, nil })
	if err != nil {
		r.Errorf("%v", err)
		return
	}
	defer server.close()
	furl, _ := server.remote.SturdyFURL()
	clients := make([]*rpc.Tub, n)
	for i := range clients {
		if clients[i], err = rpc.NewTub(rpc.Config{}); err != nil {
			r.Errorf("%v", err)
			return
		}
		defer clients[i].Close()
	}
	before, goroutines := memory(), runtime.NumGoroutine()
	remotes := make([]*rpc.Remote, n)
	var dials sync.WaitGroup
	for part := range slices.Chunk(makeRange(n), n/4) {
		dials.Go(func() {
			for _, i := range part {
				remotes[i], _ = clients[i].Connect(context.Background(), furl)
			}
		})
	}
	dials.Wait()
	if slices.Contains(remotes, nil) {
		r.Errorf("some of %d connections failed", n)
	}
	used := memory() - before
	r.Row("memory of one idle connection, both ends", used/n/1024, "KiB")
	r.Row("memory of 1,000 idle connections, both ends", used/(1<<20), "MiB")
	r.Row("goroutines of one idle connection, both ends", float64(runtime.NumGoroutine()-goroutines)/n, "")
	runtime.KeepAlive(remotes)
}

func makeRange(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// memory returns the bytes of heap and stacks that are in use.
func memory() float64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}

// foolscapRates measures the original: calls from one Python process to another.
func foolscapRates() (one, many float64, err error) {
	python := "/usr/bin/python3"
	server := exec.Command(python, "-W", "ignore", "-u", "-c", foolscapServer)
	out, err := server.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := server.Start(); err != nil {
		return 0, 0, err
	}
	defer server.Wait()
	defer server.Process.Kill()
	furl, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("no Python with Foolscap: %w", err)
	}
	var errors bytes.Buffer
	client := exec.Command(python, "-W", "ignore", "-c", foolscapClient, strings.TrimSpace(furl), strconv.Itoa(rpcFlight))
	client.Stderr = &errors
	answer, err := client.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, errors.String())
	}
	_, err = fmt.Sscan(string(answer), &one, &many)
	return one, many, err
}

const foolscapServer = `
from twisted.internet import reactor
from foolscap.api import Tub, Referenceable
class Echo(Referenceable):
    def remote_echo(self, v):
        return v
tub = Tub()
tub.startService()
port = tub.listenOn("tcp:0:interface=127.0.0.1")
tub.setLocation("tcp:127.0.0.1:%d" % port.getPortnum())
print(tub.registerReference(Echo()), flush=True)
reactor.run()
`

const foolscapClient = `
import sys, time
from twisted.internet import reactor, defer
from foolscap.api import Tub
payload = b"a payload of thirty-two bytes..."
tub = Tub()
tub.startService()

@defer.inlineCallbacks
def caller(ref, end, count):
    while time.time() < end:
        yield ref.callRemote("echo", payload)
        count[0] += 1

@defer.inlineCallbacks
def main():
    ref = yield tub.getReference(sys.argv[1])
    for n in (1, int(sys.argv[2])):
        start, count = time.time(), [0]
        yield defer.gatherResults([caller(ref, start + 2, count) for _ in range(n)])
        print(count[0] / (time.time() - start))
    reactor.stop()

reactor.callWhenRunning(main)
reactor.run()
`
