//! Pairing commands on their way between replicas: a row for each, read by the replica that holds the session's socket,
//! answered in the same row, and gone when the one that asked has read the answer or given up.

use sqlx::Row as _;

use super::record::{parsed, time};
use super::{Signal, Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::names::{RequestId, SessionId};

/// A command that waits for the replica that holds its session's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingCommand {
    /// The session.
    pub session: SessionId,
    /// The command's id.
    pub request_id: RequestId,
}

/// A command that the caller has taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenCommand {
    /// Its text, as it goes over the socket.
    pub command: String,
    /// When nobody waits for it any more.
    pub deadline: UnixTime,
}

impl Store {
    /// Lays a command down for the replica that holds the session's socket, and tells it. `false` where `most` of this
    /// session are under way, or there is no such session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queue_command(
        &self,
        session: &SessionId,
        request_id: &RequestId,
        command: &str,
        deadline: UnixTime,
        most: usize,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        retrying(|| self.try_queue_command(session, request_id, command, deadline, most, now)).await
    }

    async fn try_queue_command(
        &self,
        session: &SessionId,
        request_id: &RequestId,
        command: &str,
        deadline: UnixTime,
        most: usize,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        let mut change = self.change().await?;
        // Whoever else lays one down waits for the commit, so that the limit holds over all replicas.
        let session_row = change.backend().for_update("SELECT id FROM pairings WHERE id = $1");
        let locked =
            sqlx::query(session_row).bind(session.as_str()).fetch_optional(&mut *change.transaction).await?;
        if locked.is_none() {
            return Ok(false);
        }
        let under_way: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pairing_commands WHERE pairing_id = $1 AND deadline > $2",
        )
        .bind(session.as_str())
        .bind(now.millis())
        .fetch_one(&mut *change.transaction)
        .await?;
        if usize::try_from(under_way).unwrap_or(0) >= most {
            return Ok(false);
        }
        let queued = sqlx::query(
            "INSERT INTO pairing_commands (request_id, pairing_id, command, taken, deadline) \
             VALUES ($1, $2, $3, 0, $4) ON CONFLICT DO NOTHING",
        )
        .bind(request_id.as_str())
        .bind(session.as_str())
        .bind(command)
        .bind(deadline.millis())
        .execute(&mut *change.transaction)
        .await?;
        if queued.rows_affected() == 0 {
            return Ok(false);
        }
        change.tell(Signal::Command { session: session.to_string(), request_id: request_id.to_string() });
        change.commit().await?;
        Ok(true)
    }

    /// Takes a command on; `None` where another has, or nobody waits for it any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_command(
        &self,
        request_id: &RequestId,
        now: UnixTime,
    ) -> Result<Option<TakenCommand>, StoreFault> {
        retrying(|| async move {
            let row = sqlx::query(
                "UPDATE pairing_commands SET taken = 1 WHERE request_id = $1 AND taken = 0 AND deadline > $2 \
                 RETURNING command, deadline",
            )
            .bind(request_id.as_str())
            .bind(now.millis())
            .fetch_optional(self.writers())
            .await?;
            row.map(|row| {
                Ok(TakenCommand { command: row.try_get("command")?, deadline: time(&row, "deadline")? })
            })
            .transpose()
        })
        .await
    }

    /// The commands that nobody has taken on, oldest first, at most 1,000.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_commands(&self, now: UnixTime) -> Result<Vec<WaitingCommand>, StoreFault> {
        let rows = sqlx::query(
            "SELECT pairing_id, request_id FROM pairing_commands WHERE taken = 0 AND deadline > $1 \
             ORDER BY deadline LIMIT 1000",
        )
        .bind(now.millis())
        .fetch_all(self.readers())
        .await?;
        let read = |row| {
            Ok(WaitingCommand { session: parsed(row, "pairing_id")?, request_id: parsed(row, "request_id")? })
        };
        rows.iter().map(read).collect()
    }

    /// Lays down the answer to a command, and tells the replica that waits for it. Where nobody does any more it is
    /// left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answer_command(&self, request_id: &RequestId, answer: &str) -> Result<(), StoreFault> {
        retrying(|| self.try_answer_command(request_id, answer)).await
    }

    async fn try_answer_command(&self, request_id: &RequestId, answer: &str) -> Result<(), StoreFault> {
        let mut change = self.change().await?;
        let answered = sqlx::query(
            "UPDATE pairing_commands SET answer = $2, command = '' WHERE request_id = $1 AND answer IS NULL",
        )
        .bind(request_id.as_str())
        .bind(answer)
        .execute(&mut *change.transaction)
        .await?;
        if answered.rows_affected() == 1 {
            change.tell(Signal::Response { request_id: request_id.to_string() });
            change.commit().await?;
        }
        Ok(())
    }

    /// Takes the answer to a command, and the command's row with it; `None` where there is none yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_answer(&self, request_id: &RequestId) -> Result<Option<String>, StoreFault> {
        retrying(|| async move {
            let answer: Option<Option<String>> = sqlx::query_scalar(
                "DELETE FROM pairing_commands WHERE request_id = $1 AND answer IS NOT NULL RETURNING answer",
            )
            .bind(request_id.as_str())
            .fetch_optional(self.writers())
            .await?;
            Ok(answer.flatten())
        })
        .await
    }

    /// Takes a command back, answered or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_command(&self, request_id: &RequestId) -> Result<(), StoreFault> {
        retrying(|| async move {
            sqlx::query("DELETE FROM pairing_commands WHERE request_id = $1")
                .bind(request_id.as_str())
                .execute(self.writers())
                .await?;
            Ok(())
        })
        .await
    }

    /// Removes the commands of replicas that died while they waited.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_commands(&self, now: UnixTime) -> Result<(), StoreFault> {
        retrying(|| async move {
            sqlx::query("DELETE FROM pairing_commands WHERE deadline < $1")
                .bind(now.millis())
                .execute(self.writers())
                .await?;
            Ok(())
        })
        .await
    }
}
