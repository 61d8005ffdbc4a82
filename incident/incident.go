// Package incident records what led to a trigger and what followed, one file
// an incident, and keeps one process's incidents.
//
//	trigger ──► Recorder: what the rings hold, then the trailing window
//	              │  NAME.flog grows line by line
//	              ▼
//	            Store: NAME.flog.zst, complete and durable ──► whoever is told
//
// It does not know the rings: a [Source] gives it their events.
//
// Spec: logging-semantics.md section 8, flogfile.md section 4; design.md decisions
// 3 and 8.
package incident
