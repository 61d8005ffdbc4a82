// Package incident records what led to a trigger and what followed, one file per
// incident, and keeps the incidents of one process.
//
//	event ──► Qualifier ── trigger ──► Limiter ──► Store.Record
//	Source ── what the rings hold, then the trailing window ──┤
//	                                                          ├── NAME.flog, grows line by line
//	                                                          ▼
//	                      NAME.flog.zst, complete and durable ──► Store.Names, Read, OpenPart
//	                                                          └─► Summary, on NATS subjects
//
// The package does not know the rings: a [Source] gives it their events. It does not
// publish: it defines what is published, once, for all programs that do.
//
// Spec: logging-semantics.md section 8, flogfile.md section 4; design.md decisions
// 3 and 8.
package incident
