// Package appserver offers small services behind FURLs: whoever holds a
// service's FURL can do the one thing it does, and nothing else.
//
// A server is a directory ([Dir]) with a key, a port and a list of services;
// [Run] runs it. Directories made by the original's flappserver run as they
// stand, with the same FURLs.
//
//	tub.pem          the key, which makes the TubID
//	port             where to listen: tcp:3116
//	location         where others find it: tcp:example.org:3116
//	umask            octal, of what the services make
//	furl_prefix      pb://TUBID@LOCATION/
//	services.json    the services, by the swissnum of their FURL
//	services/N/      the private directory of service N
//	flappserver.tac  lets the original run the directory
//
// Three types of services come with it: upload-file, with [Upload] as its client,
// run-command, with [Execute], and git-repo, with [ConnectGit]. Another one is a
// [Type] in [Config.Types].
//
// Spec: cli.md sections 3 and 4, foolscap-wire.md section 7, flogfile.md
// section 9.
package appserver
