package appserver

import (
	"fmt"
	"log/slog"

	"github.com/flogtool/flogtool/rpc"
)

// A Type makes services of one kind. examples/appservice is a server with a type of its
// own.
type Type struct {
	Name string // "upload-file"

	// New makes a service from the arguments with which it was added. It is called to
	// check the arguments when a service is added, and when a client first asks a
	// running server for the service. It must not change anything outside the service.
	New func(at Place, args []string) (Service, error)
}

// A Service is the object behind one FURL. The ordinary implementation embeds a
// *[rpc.Methods].
type Service interface {
	rpc.Object

	// Close ends what the service runs and waits for it. No call follows.
	Close()
}

// A Starter is a Service that has work to do when its server starts, before clients can
// connect, such as removing what an earlier run has left.
type Starter interface {
	Service

	// Start does the work. The server logs the error and continues.
	Start() error
}

// A Place is what a service knows of its server.
type Place struct {
	Base string       // the server's directory, to which paths in arguments are relative; absolute
	Dir  string       // the private directory of the service; absolute
	Log  *slog.Logger // the server's log; never nil
}

// Builtin returns the types of this package: upload-file, run-command and git-repo.
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
