//! Rows, wherever they are: in the tail, in the store, or, on any doubt, in the log that they were made of.

use std::sync::Arc;

use proto::{Body, Event, Tenant};

use crate::content::Content;
use crate::row::Row;
use crate::scan::DENSE;
use crate::stored::{Outline, Stored};
use crate::{Error, Projection};

/// So many rows that are near one another are worth reading together.
const NEAR_MIN: usize = 4;

impl Projection {
    /// The resource of an outline: with what its row says.
    pub(crate) async fn read(&self, tenant: &Tenant, outline: Outline) -> Result<Stored, Error> {
        let content = self.content(tenant, outline.seen.row).await?;
        Ok(outline.filled(&content, Some(content.clone())))
    }

    /// The resources of a page. Rows that stand near one another are read together.
    pub(crate) async fn read_all(
        &self,
        tenant: &Tenant,
        outlines: Vec<Outline>,
    ) -> Result<Vec<Stored>, Error> {
        let hot = |outline: &Outline| self.inner.hot.get(outline.seen.row);
        let mut contents: Vec<Option<Arc<Content>>> = outlines.iter().map(hot).collect();
        self.near(tenant, &outlines, &mut contents);
        let mut read = Vec::with_capacity(outlines.len());
        for (outline, content) in outlines.into_iter().zip(contents) {
            read.push(match content {
                Some(content) => outline.filled(&content, Some(content.clone())),
                None => self.read(tenant, outline).await?,
            });
        }
        Ok(read)
    }

    /// Finds what rows say that nobody asked for lately, where they stand near one another. Those that cannot be read like
    /// this are left out.
    fn near(&self, tenant: &Tenant, outlines: &[Outline], contents: &mut [Option<Arc<Content>>]) {
        let inner = &self.inner;
        let cold = outlines.iter().zip(&*contents).enumerate().filter(|(_, (_, content))| content.is_none());
        let mut sought: Vec<(u64, usize)> =
            cold.map(|(place, (outline, _))| (outline.seen.row, place)).collect();
        sought.sort_unstable();
        let Some(((first, _), (last, _))) = sought.first().copied().zip(sought.last().copied()) else {
            return;
        };
        if sought.len() < NEAR_MIN || last - first >= sought.len() as u64 * DENSE {
            return;
        }
        let (cleared, has_room) = (inner.hot.cleared(), inner.hot.has_room());
        let mut sought = sought.into_iter().peekable();
        // What fails here is said when it is read alone.
        let _ = inner.store.range(tenant, first, last, |row| {
            while sought.next_if(|(sequence, _)| *sequence < row.sequence).is_some() {}
            if let Some((sequence, place)) = sought.next_if(|(sequence, _)| *sequence == row.sequence)
                && let Ok(Some(content)) = inner.reader.content_now(&row)
            {
                let content = Arc::new(content);
                if has_room || inner.hot.comes_again(sequence) {
                    inner.hot.put(sequence, content.clone(), cleared);
                }
                if let Some(place) = contents.get_mut(place) {
                    *place = Some(content);
                }
            }
            sought.peek().is_some()
        });
    }

    /// What a row says.
    pub(crate) async fn content(&self, tenant: &Tenant, sequence: u64) -> Result<Arc<Content>, Error> {
        match self.inner.hot.get(sequence) {
            Some(content) => Ok(content),
            // Whoever reads carries the future about, which is large.
            None => Box::pin(self.content_sought(tenant, sequence)).await,
        }
    }

    async fn content_sought(&self, tenant: &Tenant, sequence: u64) -> Result<Arc<Content>, Error> {
        let cleared = self.inner.hot.cleared();
        let row = self.row(tenant, sequence).await?;
        let content = match self.inner.reader.content_of(&row).await {
            Err(error) if error.may_be_the_rows() => {
                let told = self.told_otherwise(tenant, &row, error).await?;
                self.inner.reader.content_of(&told).await?
            }
            content => content?,
        };
        let content = Arc::new(content);
        self.inner.hot.put(sequence, content.clone(), cleared);
        Ok(content)
    }

    /// A row from the tail, the store, or, when the store is damaged, from the log that it was made of.
    async fn row(&self, tenant: &Tenant, sequence: u64) -> Result<Row, Error> {
        if let Some(row) = self.state().tail.get(sequence) {
            return Ok(row.clone());
        }
        match self.inner.store.get(tenant, sequence) {
            Ok(Some(row)) => return Ok(row),
            Ok(None) if self.is_filling() => return self.row_of_log(sequence).await,
            Err(_) if !self.inner.store.is_whole() => return self.row_of_log(sequence).await,
            Ok(None) => {
                tracing::error!(%tenant, sequence, "a row is missing in the projection; reading the log instead")
            }
            Err(error) => {
                tracing::error!(%tenant, sequence, %error, "a row cannot be read; reading the log instead")
            }
        }
        metrics::counter!("rollcall_projection_rows_damaged_total").increment(1);
        self.row_of_log(sequence).await
    }

    /// A row from the tail or the store, if it can be read.
    pub(crate) fn row_at_hand(&self, tenant: &Tenant, sequence: u64) -> Option<Row> {
        let row = self.state().tail.get(sequence).cloned();
        row.or_else(|| self.inner.store.get(tenant, sequence).ok().flatten())
    }

    /// What the log says instead of a row that cannot be read. Where it says the same, the row is as it was written, and
    /// the error is another's: a key is gone.
    async fn told_otherwise(&self, tenant: &Tenant, row: &Row, error: Error) -> Result<Row, Error> {
        let told = self.row_of_log(row.sequence).await?;
        if told.payload == row.payload {
            return Err(error);
        }
        tracing::error!(%tenant, sequence = row.sequence, "a row is damaged in the projection; reading the log instead");
        metrics::counter!("rollcall_projection_rows_damaged_total").increment(1);
        Ok(told)
    }

    async fn row_of_log(&self, sequence: u64) -> Result<Row, Error> {
        Row::of(self.inner.log.read(sequence).await?.ok_or(Error::Gone { sequence })?)
    }

    /// A row's event and its whole body.
    pub(crate) async fn opened(
        &self,
        tenant: &Tenant,
        sequence: u64,
    ) -> Result<(Event, Option<Body>), Error> {
        let row = self.row(tenant, sequence).await?;
        match self.inner.reader.opened(&row).await {
            Err(error) if error.may_be_the_rows() => {
                let told = self.told_otherwise(tenant, &row, error).await?;
                self.inner.reader.opened(&told).await
            }
            opened => opened,
        }
    }
}
