package bus

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flogtool/flogtool/incident"
)

// Bounds of what readers may create on the embedded server.
const (
	// maxConsumers is for each of the two streams: at most 100 in all.
	maxConsumers = 50

	// maxIdle is how long a consumer without a reader may ask to be kept.
	maxIdle = 5 * time.Minute
)

// objectStream is the stream of the object store.
const objectStream = "OBJ_" + incident.ObjectStore

// consumerSubjects returns the subjects of the JetStream API by which readers create
// and use consumers. They cannot delete any: a reader can learn the names of others'.
// A consumer without a reader ends by itself.
func consumerSubjects() (subjects []string) {
	for _, stream := range []string{streamName, objectStream} {
		subjects = append(subjects,
			"$JS.API.CONSUMER.CREATE."+stream, "$JS.API.CONSUMER.CREATE."+stream+".>",
			"$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.MSG.NEXT."+stream+".*",
			"$JS.ACK."+stream+".>", "$JS.FC."+stream+".>")
	}
	return subjects
}

// created is what the server says when somebody has created a consumer.
const created = "$JS.EVENT.ADVISORY.CONSUMER.CREATED.>"

// watchConsumers deletes consumers that would outlive their readers, as soon as they
// are created: permissions are by subject, and the subject does not tell.
func (b *Bus) watchConsumers() error {
	_, err := b.nc.Subscribe(created, func(m *nats.Msg) {
		var advisory struct{ Stream, Consumer string }
		if json.Unmarshal(m.Data, &advisory) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		consumer, err := b.js.Consumer(ctx, advisory.Stream, advisory.Consumer)
		if err != nil {
			return // it has ended
		}
		b.deleteLasting(ctx, consumer.CachedInfo())
	})
	if err != nil {
		return err
	}
	return b.nc.FlushTimeout(10 * time.Second)
}

// deleteLasting deletes a consumer that would outlive its reader.
func (b *Bus) deleteLasting(ctx context.Context, info *jetstream.ConsumerInfo) {
	if info.Config.Durable == "" && info.Config.InactiveThreshold <= maxIdle {
		return
	}
	if err := b.js.DeleteConsumer(ctx, info.Stream, info.Name); err != nil {
		return // it has ended
	}
	b.log.Debug("deleted a consumer that would outlive its reader", "stream", info.Stream, "consumer", info.Name)
}

// sweepConsumers deletes the consumers that outlived their readers under an earlier
// version; with all set, every consumer.
func (b *Bus) sweepConsumers(ctx context.Context, stream string, all bool) error {
	s, err := b.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	list := s.ListConsumers(ctx)
	var infos []*jetstream.ConsumerInfo
	for info := range list.Info() {
		infos = append(infos, info)
	}
	for _, info := range infos {
		if all {
			b.js.DeleteConsumer(ctx, stream, info.Name)
			continue
		}
		b.deleteLasting(ctx, info)
	}
	return list.Err()
}
