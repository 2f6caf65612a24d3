/** Who else is connected to the database. */

const OTHERS = `
  select distinct application_name as name
  from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  order by 1
`

/** @param {import('pg').Client} client @returns {Promise<string[]>} */
export async function otherSessions(client) {
  const { rows } = await client.query(OTHERS)
  return rows.map(({ name }) => name || 'unnamed')
}
