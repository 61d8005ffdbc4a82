package appserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// Config says what [Run] runs.
type Config struct {
	Dir   *Dir
	Types []Type       // default Builtin()
	Log   *slog.Logger // default discards
	Ready func()       // called when clients can connect; may be nil
}

// Run serves a directory until ctx is done, then closes all services and returns nil.
// Changes of the directory (services added, removed, or with a new FURL) take effect at
// once. The error says why the server cannot start.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Types == nil {
		cfg.Types = Builtin()
	}
	s := &server{dir: cfg.Dir, types: cfg.Types, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), objects: map[string]*object{}}
	defer s.close()
	port, err := s.dir.line(portFile)
	if err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	location, err := s.dir.line(locationFile)
	if err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	if location == "" {
		return fmt.Errorf("appserver: %s is empty: it must say where clients find this server, such as tcp:example.org:3116",
			filepath.Join(s.dir.path, locationFile))
	}
	if err := s.start(); err != nil {
		return err
	}
	tub, err := rpc.NewTub(rpc.Config{
		KeyFile: filepath.Join(s.dir.path, keyFile),
		Lookup:  s.lookup,
		Limits:  rpc.Limits{Token: 16 << 20, Message: 32 << 20, Values: 1 << 16, Depth: 32, Queue: 8 << 20, Calls: 64},
		// While a command reads no input, its client's connection is not read either, so
		// only an unanswered ping shows that the client is lost.
		KeepaliveTimeout:  15 * time.Second,
		DisconnectTimeout: silenceTimeout,
		Log:               s.log,
	})
	if err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	defer tub.Close()
	if err := tub.SetLocation(location); err != nil {
		return fmt.Errorf("appserver: %s: %w", filepath.Join(s.dir.path, locationFile), err)
	}
	addr, err := tub.Listen(port)
	if err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	s.log.Info("server running", "tub", tub.ID(), "addr", addr.String())
	if cfg.Ready != nil {
		cfg.Ready()
	}
	<-ctx.Done()
	s.log.Info("server stopping", "cause", context.Cause(ctx))
	return nil
}

// A server finds services by their swissnum.
type server struct {
	dir   *Dir
	types []Type
	log   *slog.Logger

	mu      sync.Mutex
	objects map[string]*object // guarded by mu; by swissnum; made at the first request
	retired []Service          // guarded by mu; services whose entries were edited
	stamp   fs.FileInfo        // guarded by mu; of services.json when listed was read
	listed  map[string]entry   // guarded by mu
}

// start calls Start of each service that has it. A service that cannot be made does not
// affect the others.
func (s *server) start() error {
	all, err := s.dir.load()
	if err != nil {
		return err
	}
	for name, e := range all {
		log := s.log.With("service", e.Relative)
		o, err := s.find(name)
		if err != nil {
			log.Warn("service not available", "err", err)
			continue
		}
		if st, ok := o.svc.(Starter); ok {
			if err := st.Start(); err != nil {
				log.Warn("service start failed", "err", err)
			}
		}
	}
	return nil
}

// lookup is the Lookup of the Tub.
func (s *server) lookup(name string, p rpc.Peer) rpc.Object {
	o, err := s.find(name)
	if err != nil {
		s.log.Warn("service not available", "peer", p.TubID(), "err", err)
		return nil
	}
	return o
}

var errNoService = errors.New("no such service")

// find returns the object for a swissnum, as the directory lists it now.
func (s *server) find(name string) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	e, ok := s.listed[name]
	o := s.objects[name]
	if o != nil && ok && reflect.DeepEqual(o.entry, e) {
		return o, nil
	}
	if !ok {
		return nil, errNoService
	}
	if o != nil { // the entry was edited: running calls continue, new ones use the new service
		s.retired = append(s.retired, o.svc)
	}
	svc, err := makeService(s.types, s.dir.place(e, s.log.With("service", e.Relative)), e.Type, e.Args)
	if err != nil {
		return nil, err
	}
	o = &object{server: s, name: name, entry: e, svc: svc}
	s.objects[name] = o
	return o, nil
}

// refresh reads the list of services if it has changed. Every change makes a new file,
// whose inode or time differs. mu is held.
func (s *server) refresh() error {
	now, err := os.Stat(filepath.Join(s.dir.path, servicesFile))
	if err == nil && s.stamp != nil && os.SameFile(now, s.stamp) && now.ModTime().Equal(s.stamp.ModTime()) && now.Size() == s.stamp.Size() {
		return nil
	}
	listed, err := s.dir.load()
	if err != nil {
		return err
	}
	s.stamp, s.listed = now, listed
	return nil
}

// close closes all services. The Tub is already closed, so no call follows.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		o.svc.Close()
	}
	for _, svc := range s.retired {
		svc.Close()
	}
}

// An object is a service as its clients see it. Each call checks whether the directory
// still lists the service, so that removing it also affects connected clients.
type object struct {
	server *server
	name   string
	entry  entry
	svc    Service
}

func (o *object) Interface() string { return o.svc.Interface() }

func (o *object) Invoke(c *rpc.Call) (any, error) {
	if now, err := o.server.find(o.name); err != nil || now != o {
		return nil, errNoService
	}
	return o.svc.Invoke(c)
}
