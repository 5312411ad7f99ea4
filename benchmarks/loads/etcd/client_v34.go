//go:build etcd34
// +build etcd34

package main

// Names the client of etcd 3.4, in Debian 12.

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/clientv3"
)

type etcd = clientv3.Client

func connect(endpoints []string) (*etcd, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
}

func putTogether(client *etcd, first, last int, value string) error {
	puts := make([]clientv3.Op, 0, last-first)
	for number := first; number < last; number++ {
		puts = append(puts, clientv3.OpPut(key(number), value))
	}
	_, err := client.Txn(context.Background()).Then(puts...).Commit()
	return err
}
