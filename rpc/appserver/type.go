package appserver

import (
	"fmt"
	"log/slog"

	"github.com/flogtool/flogtool/rpc"
)

// A Type makes services of one kind. examples/appservice has a whole server with
// one of its own.
type Type struct {
	Name string // "upload-file"

	// New makes a service from the arguments it was added with. It is called
	// when a service is added, only to check the arguments, and when it is first
	// asked for in a running server; so it must do nothing that lasts.
	New func(at Place, args []string) (Service, error)
}

// A Service is what the holder of one FURL can call. The ordinary way to make
// one is to embed a *[rpc.Methods].
type Service interface {
	rpc.Object

	// Close ends what the service runs and waits for it. No call comes after.
	Close()
}

// A Starter is a Service that has something to do when its server starts,
// before anyone can connect, such as removing what an earlier run left.
type Starter interface {
	Service
	Start() error
}

// A Place is where a service lives.
type Place struct {
	Base string       // relative paths in arguments are relative to it; absolute
	Dir  string       // private to the service; absolute
	Log  *slog.Logger // the server's log; never nil
}

// Builtin returns the types that come with this package.
func Builtin() []Type {
	return []Type{
		{Name: "upload-file", New: newUploader},
		{Name: "run-command", New: newRunner},
		{Name: "git-repo", New: newGitRepo},
	}
}

// makeService returns a new service of the type called name.
func makeService(types []Type, at Place, name string, args []string) (Service, error) {
	for _, t := range types {
		if t.Name == name {
			return t.New(at, args)
		}
	}
	return nil, fmt.Errorf("unknown service type %q", name)
}
