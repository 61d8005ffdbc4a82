// Package wire is what a logport and its readers say to each other: the names of
// interfaces and methods, the format of a batch, and the reader's side of every
// call.
//
//	reader                                     publisher (logport/internal/publish)
//	Subscribe, Follow   ── flog_subscribe ──►
//	handle(*Batch)      ◄── batch ───────────  records, counts of what is missing
//	EventObserver       ◄── msg ─────────────  the original's way, one event a call
//	SubscribeIncidents  ◄── new_incident ────  names and triggers
//	GetIncident, ReadPart ── get_incident, flog_read ──►
//	SetThreshold        ── set_threshold ────►  the control object
//
// A program that only reads links this package and not the rings.
//
// Spec: foolscap-wire.md sections 6.1 to 6.7; docs/wire-additions.md.
package wire

import (
	"slices"
	"strings"

	"github.com/flogtool/flogtool/rpc"
)

// Names of the remote interfaces; foolscap-wire.md section 6.1.
const (
	RILogGatherer  = "RILogGatherer.foolscap.lothar.com"
	RILogObserver  = "RILogObserver.foolscap.lothar.com"
	RILogPublisher = "RILogPublisher.foolscap.lothar.com"
	RISubscription = "RISubscription.foolscap.lothar.com"
)

// Methods of a publisher that Foolscap knows; foolscap-wire.md section 6.3.
const (
	MethodGetVersions          = "get_versions"
	MethodGetPID               = "get_pid"
	MethodSubscribeToAll       = "subscribe_to_all"
	MethodSubscribeToIncidents = "subscribe_to_incidents"
	MethodUnsubscribe          = "unsubscribe" // of the publisher, and of a subscription
	MethodListIncidents        = "list_incidents"
	MethodGetIncident          = "get_incident"
)

// Methods of a publisher that only our programs know.
const (
	MethodFlogSubscribe = "flog_subscribe"
	MethodFlogIncidents = "flog_incidents"
	MethodFlogParts     = "flog_parts"
	MethodFlogRead      = "flog_read"
)

// Methods of an observer: Foolscap's, then ours.
const (
	MethodMsg           = "msg"
	MethodDone          = "done"
	MethodNewIncident   = "new_incident"
	MethodCaughtUp      = "done_with_incident_catchup"
	MethodBatch         = "batch"
	MethodIncidentBegan = "incident_began"
)

// Methods of a gatherer: Foolscap's, then ours.
const (
	MethodLogport     = "logport"
	MethodFlogControl = "flog_control"
)

// Methods of the control object.
const (
	MethodGetThresholds   = "get_thresholds"
	MethodSetThreshold    = "set_threshold"
	MethodDeclareIncident = "declare_incident"
)

// Features is what our Tubs send as the hello's key flog: the versions of the
// additions that they know.
const Features = "1"

// SupportsExtensions reports whether a peer knows the additions of this version.
func SupportsExtensions(p rpc.Peer) bool {
	versions, _, _ := strings.Cut(p.Features(), " ")
	return slices.Contains(strings.Split(versions, ","), Features)
}
