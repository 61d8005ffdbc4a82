package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/banana"
)

// IncidentOptions say which incidents a subscriber wants.
type IncidentOptions struct {
	CatchUp bool   // those that are stored first
	Since   string // only names greater than this
}

func (o *IncidentOptions) dict() event.Dict {
	return event.Dict{{Key: keyCatchUp, Value: o.CatchUp}, {Key: keySince, Value: o.Since}}
}

// ParseIncidentOptions reads the options of flog_incidents as a peer sent them.
func ParseIncidentOptions(v any) (o IncidentOptions) {
	d, _ := v.(event.Dict)
	catchUp, _ := d.Get(keyCatchUp)
	o.CatchUp = Flag(catchUp)
	since, _ := d.Get(keySince)
	o.Since, _ = banana.Text(since)
	return o
}

// IncidentObserver is what a publisher calls for a subscriber to incidents, one
// function after the other.
type IncidentObserver struct {
	// Began gives the trigger of a recording that begins. If it is not nil, the
	// publisher must support the extensions.
	Began func(trigger *event.Event)

	// New gives the name of an incident that is complete, which is valid (see
	// [incident.ValidName]), and its trigger, which is empty if the publisher sent
	// none. An error goes to the publisher.
	New func(name string, trigger *event.Event) error

	// Refused, if not nil, reports a name that is not valid; it is the peer's text.
	Refused func(name any)

	// CaughtUp, if not nil, says that what was stored has been told and what
	// follows is new.
	CaughtUp func()
}

// SubscribeIncidents has a publisher tell o of its incidents. The subscription
// lasts until its method unsubscribe is called or the connection is lost; it is
// nil for a publisher that answers with none.
func SubscribeIncidents(ctx context.Context, publisher *rpc.Remote, options IncidentOptions, o IncidentObserver) (subscription *rpc.Remote, err error) {
	methods := map[string]func(*rpc.Call) (any, error){
		MethodNewIncident: o.newIncident,
		MethodCaughtUp: func(*rpc.Call) (any, error) {
			if o.CaughtUp != nil {
				o.CaughtUp()
			}
			return nil, nil
		},
	}
	if o.Began == nil {
		args := rpc.Args{
			Pos: []any{newObserver(methods)},
			Kw:  map[string]any{keyCatchUp: options.CatchUp, keySince: []byte(options.Since)},
		}
		err = publisher.Call(ctx, MethodSubscribeToIncidents, args, &subscription)
		return subscription, err
	}
	methods[MethodIncidentBegan] = func(c *rpc.Call) (any, error) {
		args, err := c.Require("trigger")
		if err != nil {
			return nil, err
		}
		d, ok := args[0].(event.Dict)
		if !ok {
			return nil, rpc.Errorf("builtins.TypeError", "trigger must be a dict")
		}
		o.Began(event.FromDict(d))
		return nil, nil
	}
	err = publisher.Call(ctx, MethodFlogIncidents, rpc.Pos(newObserver(methods), options.dict()), &subscription)
	return subscription, err
}

func (o *IncidentObserver) newIncident(c *rpc.Call) (any, error) {
	args, err := c.Require("name", "trigger")
	if err != nil {
		return nil, err
	}
	name, ok := banana.Text(args[0])
	if !ok || !incident.ValidName(name) {
		if o.Refused != nil {
			o.Refused(args[0])
		}
		return nil, rpc.Errorf("builtins.ValueError", "this is not the name of an incident")
	}
	trigger, _ := args[1].(event.Dict)
	return nil, o.New(name, event.FromDict(trigger))
}

// ErrGone is the error of [GetIncident] for an incident that its publisher does
// not have any more.
var ErrGone = errors.New("wire: the publisher does not have it any more")

// GetIncident fetches an incident: its header, which has a trigger that is a dict,
// and its events. One of more than size bytes on the wire is an error that wraps
// [rpc.ErrLimit].
func GetIncident(ctx context.Context, publisher *rpc.Remote, name string, size int64) (header event.Dict, events []event.Dict, err error) {
	var answer any
	err = publisher.Call(ctx, MethodGetIncident, rpc.Pos([]byte(name)).Expecting(size), &answer)
	if remote, ok := errors.AsType[*rpc.RemoteError](err); ok &&
		remote.Type == "builtins.KeyError" && strings.Contains(remote.Text, "no incident named") {
		return nil, nil, ErrGone
	}
	if err != nil {
		return nil, nil, err
	}
	return parseIncident(answer)
}

// parseIncident checks the answer of get_incident.
func parseIncident(answer any) (header event.Dict, events []event.Dict, err error) {
	var pair []any
	switch v := answer.(type) {
	case event.Tuple:
		pair = v
	case []any:
		pair = v
	}
	if len(pair) != 2 {
		return nil, nil, errors.New("wire: the incident is not a pair of a header and events")
	}
	header, ok := pair[0].(event.Dict)
	if !ok {
		return nil, nil, errors.New("wire: the incident's header is not a dict")
	}
	trigger, _ := header.Get("trigger")
	if _, ok := trigger.(event.Dict); !ok {
		return nil, nil, errors.New("wire: the incident's header has no trigger that is a dict")
	}
	list, ok := pair[1].([]any)
	if !ok {
		return nil, nil, errors.New("wire: the incident's events are not a list")
	}
	events = make([]event.Dict, len(list))
	for i, v := range list {
		if events[i], ok = v.(event.Dict); !ok {
			return nil, nil, fmt.Errorf("wire: event %d of the incident is not a dict", i)
		}
	}
	return header, events, nil
}

// Part is a file of an incident: the flog file, [incident.FlogPart], or an
// attachment.
type Part struct {
	Name string
	Size int64 // bytes
}

// ListParts returns the parts of an incident of a publisher that supports the
// extensions. Names and sizes are the peer's claims, except that no size is
// negative.
func ListParts(ctx context.Context, publisher *rpc.Remote, name string) ([]Part, error) {
	var answer []any
	if err := publisher.Call(ctx, MethodFlogParts, rpc.Pos(name), &answer); err != nil {
		return nil, err
	}
	parts := make([]Part, len(answer))
	for i, v := range answer {
		pair, _ := v.(event.Tuple)
		if len(pair) != 2 {
			return nil, errors.New("wire: a part is not a pair of name and size")
		}
		size, ok := banana.Int(pair[1])
		if !ok || size < 0 {
			return nil, fmt.Errorf("wire: the size of part %d is not a number of bytes", i)
		}
		parts[i].Name, _ = banana.Text(pair[0])
		parts[i].Size = size
	}
	return parts, nil
}

// readSize is how many bytes one call of flog_read asks for.
const readSize = 256 << 10

// ReadPart copies a part of an incident to w, piece by piece.
func ReadPart(ctx context.Context, publisher *rpc.Remote, name string, part Part, w io.Writer) error {
	for offset := int64(0); offset < part.Size; {
		var piece []byte
		if err := publisher.Call(ctx, MethodFlogRead, rpc.Pos(name, part.Name, offset, readSize), &piece); err != nil {
			return err
		}
		if len(piece) == 0 || int64(len(piece)) > part.Size-offset {
			return fmt.Errorf("wire: part %q: %d bytes at offset %d of %d", part.Name, len(piece), offset, part.Size)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		offset += int64(len(piece))
	}
	return nil
}
