// Package rpc calls objects in other processes over authenticated, encrypted
// connections, in the protocol of Foolscap 21.7.0.
package rpc
