// Package appserver runs small services, each with a FURL of its own: the holder of
// the FURL can use that service and nothing else.
//
// A server is a directory ([Dir]) with a key, a port and a list of services. [Create]
// makes it, [Dir.Add] adds services, and [Run] serves it. Directories of the original's
// flappserver work unchanged, with the same FURLs.
//
//	tub.pem          the key, which determines the TubID
//	port             where to listen: tcp:3116
//	location         where clients find the server: tcp:example.org:3116
//	umask            octal, for the files that services make
//	furl_prefix      pb://TUBID@LOCATION/
//	services.json    the services, by the swissnum of their FURL
//	services/N/      the private directory of service N
//	flappserver.tac  lets the original run the directory
//
// [Builtin] returns three types of services: upload-file, whose client is [Upload],
// run-command, whose client is [Execute], and git-repo, whose client is [ConnectGit].
// [Config.Types] can have others. [Use] connects a client to a service.
//
// Spec: cli.md sections 3 and 4, foolscap-wire.md section 7, flogfile.md
// section 9.
package appserver
