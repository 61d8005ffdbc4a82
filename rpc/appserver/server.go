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

// Run serves a directory until ctx is done, and then ends all its services.
// Services that are added, removed or given new FURLs meanwhile are so at once.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Types == nil {
		cfg.Types = Builtin()
	}
	s := &server{dir: cfg.Dir, types: cfg.Types, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), offers: map[string]*offer{}}
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
		return fmt.Errorf("appserver: %s is empty: write into it where others find this server, like tcp:example.org:3116",
			filepath.Join(s.dir.path, locationFile))
	}
	if err := s.start(); err != nil {
		return err
	}
	tub, err := rpc.NewTub(rpc.Config{
		KeyFile: filepath.Join(s.dir.path, keyFile),
		Lookup:  s.lookup,
		Limits:  rpc.Limits{Token: 16 << 20, Message: 32 << 20, Values: 1 << 16, Depth: 32, Queue: 8 << 20, Calls: 64},
		// A client that has gone while its command takes no more input is not
		// heard to go: it is found out by a ping that fails.
		KeepaliveTimeout:  15 * time.Second,
		DisconnectTimeout: giveUp,
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
	offers  map[string]*offer // guarded by mu; by swissnum; made when first asked for
	retired []Service         // guarded by mu; what edited services were before
	stamp   fs.FileInfo       // guarded by mu; of services.json when listed was read
	listed  map[string]entry  // guarded by mu
}

// start lets each service that has something to do at start do it. One that
// cannot be made costs the others nothing.
func (s *server) start() error {
	all, err := s.dir.load()
	if err != nil {
		return err
	}
	for name, e := range all {
		log := s.log.With("service", e.Relative)
		o, err := s.find(name)
		if err != nil {
			log.Warn("service cannot be offered", "err", err)
			continue
		}
		if st, ok := o.svc.(Starter); ok {
			if err := st.Start(); err != nil {
				log.Warn("service did not start cleanly", "err", err)
			}
		}
	}
	return nil
}

// lookup is the Tub's way to a service.
func (s *server) lookup(name string, p rpc.Peer) rpc.Object {
	o, err := s.find(name)
	if err != nil {
		s.log.Warn("service cannot be offered", "peer", p.TubID(), "err", err)
		return nil
	}
	return o
}

var errNoService = errors.New("there is no such service")

// find returns the service of a swissnum as the directory has it now.
func (s *server) find(name string) (*offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	e, ok := s.listed[name]
	o := s.offers[name]
	if o != nil && ok && reflect.DeepEqual(o.entry, e) {
		return o, nil
	}
	if !ok {
		return nil, errNoService
	}
	if o != nil { // edited: calls that run go on, new ones go to the new one
		s.retired = append(s.retired, o.svc)
	}
	svc, err := makeService(s.types, s.dir.place(e, s.log.With("service", e.Relative)), e.Type, e.Args)
	if err != nil {
		return nil, err
	}
	o = &offer{server: s, name: name, entry: e, svc: svc}
	s.offers[name] = o
	return o, nil
}

// refresh reads the list of services if it has changed. Every change is a new
// file, so that its inode or time differs.
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

// close ends all services. The Tub is closed before, so that no call comes.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.offers {
		o.svc.Close()
	}
	for _, svc := range s.retired {
		svc.Close()
	}
}

// An offer is a service as peers hold it: each call asks again whether the
// directory still has it, so that removing it works on those connected too.
type offer struct {
	server *server
	name   string
	entry  entry
	svc    Service
}

func (o *offer) Interface() string { return o.svc.Interface() }

func (o *offer) Invoke(c *rpc.Call) (any, error) {
	if now, err := o.server.find(o.name); err != nil || now != o {
		return nil, errNoService
	}
	return o.svc.Invoke(c)
}
