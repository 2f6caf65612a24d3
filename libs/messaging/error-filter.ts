/** Nest would replace every error that is not an RpcException by a text without code; this hands them on as they are. */

import { Catch, type RpcExceptionFilter } from '@nestjs/common'
import { type Observable, throwError } from 'rxjs'

@Catch()
export class ErrorsPassThrough implements RpcExceptionFilter {
  catch(error: unknown): Observable<never> {
    return throwError(() => error)
  }
}
