// Package tail shows events: those that files hold, and those of live processes.
//
//	files ───────► flogfile ──┐
//	                          ├──► select ──► show ──► output
//	live process ──► Tub ─────┘
//
// It decides nothing about events and stores none, except that a tail may save
// what it shows.
//
// Spec: cli.md section 2 (dump, tail, filter).
package tail
