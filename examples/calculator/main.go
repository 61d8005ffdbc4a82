// Command calculator is a small server and client that use package rpc.
//
//	calculator serve --furlfile F [--port tcp:127.0.0.1:0]
//	calculator call FURL METHOD JSON…
//
// Serve offers one object and prints its FURL, which is also the permission to use the
// object. It keeps the FURL in F and its key in F.pem. Call calls a method and prints the
// answer as JSON. An argument that is a FURL passes a reference to its object. The other end
// of each may be a Foolscap program in Python.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `usage: calculator serve --furlfile F [--port tcp:127.0.0.1:0]
       calculator call FURL METHOD JSON…
`

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	var err error
	switch {
	case len(args) > 0 && args[0] == "serve":
		flags := flag.NewFlagSet("serve", flag.ContinueOnError)
		flags.SetOutput(errw)
		furlfile := flags.String("furlfile", "", "file that keeps the FURL")
		port := flags.String("port", "tcp:127.0.0.1:0", "endpoint to listen on")
		if flags.Parse(args[1:]) != nil || *furlfile == "" || flags.NArg() > 0 {
			io.WriteString(errw, usage)
			return 2
		}
		err = serve(ctx, expand(*furlfile), *port, out)
	case len(args) > 2 && args[0] == "call":
		err = call(ctx, args[1], args[2], args[3:], out)
	default:
		io.WriteString(errw, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(errw, "calculator: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return 1
	}
	return 0
}

// expand turns ~ at the beginning of a name into the home directory.
func expand(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return home + "/" + rest
		}
	}
	return name
}

// serve runs until ctx is done.
func serve(ctx context.Context, furlfile, port string, out io.Writer) error {
	tub, err := rpc.NewTub(rpc.Config{
		KeyFile:     furlfile + ".pem",
		AcceptGifts: true, // introduce is given references to objects elsewhere
	})
	if err != nil {
		return err
	}
	defer tub.Close()
	addr, err := tub.Listen(port)
	if err != nil {
		return err
	}
	if err := tub.SetLocation("tcp:" + addr.String()); err != nil {
		return err
	}
	furl, err := tub.RegisterFile(newCalculator(), furlfile)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, furl)
	<-ctx.Done()
	return nil
}

// calculator is the object that serve offers. Peers can call only the methods in Map.
type calculator struct {
	rpc.Methods

	mu        sync.Mutex
	observers []*rpc.Remote
}

func newCalculator() *calculator {
	c := new(calculator)
	c.Map = map[string]func(*rpc.Call) (any, error){
		"add":       add,
		"echo":      echo,
		"fail":      fail,
		"subscribe": c.subscribe,
		"push":      c.push,
		"introduce": introduce,
	}
	return c
}

// add adds integers of any size, and floats.
func add(c *rpc.Call) (any, error) {
	v, err := c.Require("a", "b")
	if err != nil {
		return nil, err
	}
	a, aok := integer(v[0])
	b, bok := integer(v[1])
	if aok && bok {
		return new(big.Int).Add(a, b), nil
	}
	var x, y float64
	if err := errors.Join(rpc.Convert(v[0], &x), rpc.Convert(v[1], &y)); err != nil {
		return nil, rpc.Errorf("builtins.TypeError", "add() takes two numbers")
	}
	return x + y, nil
}

// integer returns v as an integer, and false if it is not one.
func integer(v any) (*big.Int, bool) {
	var n *big.Int
	return n, v != nil && rpc.Convert(v, &n) == nil
}

func echo(c *rpc.Call) (any, error) {
	v, err := c.Require("value")
	if err != nil {
		return nil, err
	}
	return v[0], nil
}

// fail shows how a Go error becomes a remote exception.
func fail(c *rpc.Call) (any, error) {
	v, err := c.Require("message")
	if err != nil {
		return nil, err
	}
	text, _ := banana.Text(v[0])
	return nil, errors.New(text)
}

// reference returns the argument with this name, which must be a reference.
func reference(c *rpc.Call, name string) (*rpc.Remote, error) {
	v, err := c.Require(name)
	if err != nil {
		return nil, err
	}
	r, ok := v[0].(*rpc.Remote)
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "%s() takes a reference", c.Method)
	}
	return r, nil
}

// subscribe adds an observer.
func (c *calculator) subscribe(call *rpc.Call) (any, error) {
	r, err := reference(call, "observer")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observers = append(c.observers, r)
	return nil, nil
}

// push calls notify on every observer, in the order of the pushes, and returns
// how many there are.
func (c *calculator) push(call *rpc.Call) (any, error) {
	v, err := call.Require("value")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observers = slices.DeleteFunc(c.observers, func(r *rpc.Remote) bool {
		return r.Send("notify", rpc.Pos(v[0])) != nil // gone: errors.Is(err, rpc.ErrDeadReference)
	})
	return len(c.observers), nil
}

// introduce calls another object, which may live in a third process.
func introduce(c *rpc.Call) (any, error) {
	other, err := reference(c, "other")
	if err != nil {
		return nil, err
	}
	c.Go() // do not make other calls wait for this one
	var answer any
	err = other.Call(c.Context(), "hello", rpc.Args{}, &answer)
	return answer, err
}

// callTime is the timeout of the command call.
const callTime = 30 * time.Second

// call calls a method of the object at furl and prints the answer.
func call(ctx context.Context, furl, method string, args []string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	f, err := rpc.ParseFURL(furl)
	if err != nil {
		return err
	}
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		return err
	}
	defer tub.Close()
	r, err := tub.Connect(ctx, f)
	if err != nil {
		return err
	}
	var values []any
	for _, arg := range args {
		v, err := fromJSON(arg)
		if err != nil {
			return fmt.Errorf("argument %q is not JSON: %w", arg, err)
		}
		if s, ok := v.(string); ok && strings.HasPrefix(s, "pb://") {
			g, err := rpc.ParseFURL(s)
			if err != nil {
				return err
			}
			if v, err = tub.Connect(ctx, g); err != nil {
				return err
			}
		}
		values = append(values, v)
	}
	var answer any
	if err := r.Call(ctx, method, rpc.Pos(values...), &answer); err != nil {
		return err
	}
	text, err := json.Marshal(toJSON(answer, 0))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// fromJSON parses one value. A number without a fraction becomes an integer.
func fromJSON(text string) (any, error) {
	if strings.HasPrefix(text, "pb://") {
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more than one value")
	}
	return numbers(v)
}

// numbers replaces JSON's numbers by Go's.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return n, nil
		}
		return v.Float64()
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = numbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// toJSON returns a value for encoding/json: sequences become arrays, bytes become text if
// they are UTF-8, and references their owner's TubID.
func toJSON(v any, depth int) any {
	if depth > 100 {
		return "…" // the list may contain itself
	}
	list := func(items []any) any {
		out := make([]any, len(items))
		for i, e := range items {
			out[i] = toJSON(e, depth+1)
		}
		return out
	}
	switch v := v.(type) {
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return fmt.Sprintf("%q", v)
	case []any:
		return list(v)
	case banana.Tuple:
		return list(v)
	case banana.Set:
		return list(v)
	case banana.FrozenSet:
		return list(v)
	case banana.Dict:
		out := make(map[string]any, len(v))
		for _, item := range v {
			key, ok := banana.Text(item.Key)
			if !ok {
				text, _ := json.Marshal(toJSON(item.Key, depth+1))
				key = string(bytes.TrimSpace(text))
			}
			out[key] = toJSON(item.Value, depth+1)
		}
		return out
	case float64:
		if v != v || v-v != 0 {
			return fmt.Sprint(v) // JSON does not have NaN and the infinities
		}
		return v
	case *banana.Copyable:
		return map[string]any{"class": v.Class, "attributes": toJSON(v.Attrs, depth+1)}
	case *rpc.Remote:
		return map[string]any{"reference": v.String()}
	}
	return v
}
