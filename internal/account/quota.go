package account

import "context"

// Quota is a user's own, as in their record; 0 when there is none. It is asked
// with every request that stores: mostly it is in memory.
func (d *Directory) Quota(ctx context.Context, name string) (int64, error) {
	u, err := d.load(ctx, name)
	if err != nil || u == nil {
		return 0, err
	}
	return u.Quota, nil
}
