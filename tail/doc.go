// Package tail shows events: those in flog files, and those of live processes as they
// happen.
//
//	flog files ───► sources ────┐
//	                            ├──► Select ──► Style ──► output
//	live process ─► follower ───┘
//
// A [Dump] shows the events of files, a [Filter] copies them to another file, a [Follow]
// shows the events of processes. Each is a struct of settings with a method Run. A
// [Select] says which events are wanted, and a [Style] how they are shown.
//
// The package does not change events. It writes no file except the one that a Filter
// makes and the one that Follow.SaveTo names.
//
// Spec: cli.md section 2 (dump, tail, filter).
package tail
